"""Runs to read: two training steps each on the real backbone and tweets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one

TrainFast = Callable[..., Path]


@pytest.fixture(scope="session")
def train_fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainFast]:
    """Train as debug=fast does, on 8 rows; the same overrides give the same folder, trained once."""
    runs = tmp_path_factory.mktemp("runs")

    def trained(*overrides: str) -> Path:
        settings = train_config(
            "experiment=quickstart",
            "debug=fast",
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
