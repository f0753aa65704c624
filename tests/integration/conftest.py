"""The real backbone, dequantised once for the session, and runs small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.composing import train_config

# Outlives the session: dequantising takes half a minute, and the embedded model never changes.
CACHE = Path(__file__).parents[2] / ".cache"


@pytest.fixture
def quickstart(tmp_path: Path) -> Callable[..., DictConfig]:
    """The embedded experiment on 8 training and 12 test rows, its runs under `tmp_path`."""

    def composed(*overrides: str) -> DictConfig:
        return train_config(
            "experiment=quickstart",
            "split.num_train=8",
            "split.num_test=12",
            "trainer.max_epochs=6",
            "optimizer.lr=0.01",
            "trainer.enable_progress_bar=false",
            "callbacks.progress_bar=null",
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={CACHE}",
            *overrides,
        )

    return composed
