"""Runs small enough for a test, on real tweets and the embedded model or a tiny one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.composing import train_config
from tests.tiny_backbone import save_tiny_backbone

# Kept between sessions: dequantising takes half a minute, and the embedded model never changes.
CACHE = Path(__file__).parents[2] / ".cache"

Quickstart = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, for `backbone=local`."""
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)


@pytest.fixture
def real_quickstart(tmp_path: Path) -> Quickstart:
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


@pytest.fixture
def quickstart(real_quickstart: Quickstart, tiny_backbone: Path) -> Quickstart:
    """The same with the tiny model in place of the embedded one."""
    tiny = ["backbone=local", f"backbone.path={tiny_backbone}", "backbone.name=tiny"]

    def composed(*overrides: str) -> DictConfig:
        # The command line may still choose another model.
        chosen = any(override.startswith("backbone=") for override in overrides)
        return real_quickstart(*([] if chosen else tiny), *overrides)

    return composed
