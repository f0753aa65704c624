"""Made-up predictions of runs on the same rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from softcue.statistics.outcomes import Outcomes

MakeOutcomes = Callable[..., Outcomes]


@pytest.fixture(scope="session")
def make_outcomes() -> MakeOutcomes:
    """Make a run that is right where a noisy score says so: `make_outcomes(rows=50, classes=3, seed=1)`."""

    def make(*, rows: int, classes: int, seed: int, strength: float = 1.0) -> Outcomes:
        target_B = np.random.default_rng(0).integers(0, classes, size=rows)
        logits_BC = np.random.default_rng(seed).normal(size=(rows, classes))
        logits_BC[np.arange(rows), target_B] += strength
        probability_BC = np.exp(logits_BC) / np.exp(logits_BC).sum(axis=1, keepdims=True)
        return Outcomes(
            row_B=np.arange(rows),
            target_B=target_B,
            predicted_B=probability_BC.argmax(axis=1),
            probability_BC=probability_BC,
        )

    return make
