"""Runs to report on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue.runs.record import Failure, RunRecord

EXAMPLE = Path(__file__).parents[1] / "runs" / "record_v1.json"

MakeRun = Callable[..., RunRecord]


@pytest.fixture
def make_run() -> MakeRun:
    """Make a complete run: `make_run("p_tuning", seed=1, macro_f1=0.7, prompt={"num_tokens": 5})`."""
    example = RunRecord.from_json(EXAMPLE.read_text())

    def make(method: str, *, seed: int, macro_f1: float | None, **settings: Any) -> RunRecord:
        return replace(
            example,
            run_id=f"{method}-{seed:012x}",
            method=method,
            seed=seed,
            settings={**settings, "seed": seed, "split": {"seed": seed, "fold": None}},
            metrics={"test": {"accuracy": 0.8125, "macro_f1": macro_f1, "auroc": None}},
        )

    return make


@pytest.fixture
def failed_run(make_run: MakeRun) -> RunRecord:
    """A run that failed with an error of two lines."""
    failure = Failure(type="TrainingError", message="the loss is nan at step 12:\n  lower optimizer.lr")
    return replace(make_run("p_tuning", seed=2, macro_f1=None), status="failed", error=failure)
