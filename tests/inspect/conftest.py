"""Runs to read: two training steps each on a tiny model and real tweets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.composing import train_config
from tests.integration.conftest import CACHE, tiny_backbone
from tests.running import train_one

__all__ = ["tiny_backbone", "train_fast"]

TrainFast = Callable[..., Path]


@pytest.fixture(scope="session")
def train_fast(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Path) -> Iterator[TrainFast]:
    """Train as debug=fast does, on 8 rows; the same overrides give the same folder, trained once."""
    runs = tmp_path_factory.mktemp("runs")

    def trained(*overrides: str) -> Path:
        settings = train_config(
            "experiment=quickstart",
            "debug=fast",
            "backbone=local",
            f"backbone.path={tiny_backbone}",
            "backbone.name=tiny",
            "split.num_train=8",
            "split.num_test=2",
            "trainer.enable_progress_bar=false",
            "callbacks.progress_bar=null",
            f"paths.runs={runs}",
            f"paths.cache={CACHE}",
            *overrides,
        )
        return train_one(settings).path

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCUE_CACHE", str(CACHE))
        yield trained
