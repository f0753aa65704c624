"""Whole runs on a tiny random model, a second each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone, save_tiny_encoder_decoder

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model for `backbone=local`."""
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)


@pytest.fixture(scope="session")
def tiny_encoder_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a T5 in its place."""
    return save_tiny_encoder_decoder(tmp_path_factory.mktemp("t5"), CACHE)


@pytest.fixture(scope="session")
def tiny(tiny_backbone: Path) -> list[str]:
    """The overrides of a run of 9 steps in 3 epochs that saves its state before every batch."""
    return [
        "experiment=quickstart",
        "backbone=local",
        f"backbone.path={tiny_backbone}",
        "backbone.name=tiny",
        "split.num_train=12",
        "split.num_test=8",
        "data.batch_size=4",
        "trainer.max_epochs=3",
        "callbacks.last.every_s=0",
        "callbacks.progress_bar=null",
        "trainer.enable_progress_bar=false",
        f"paths.cache={CACHE}",
    ]


@pytest.fixture
def compose(tiny: list[str], tmp_path: Path) -> Compose:
    """The config of such a run, with its folder below `tmp_path`."""
    return lambda *overrides: train_config(*tiny, f"paths.runs={tmp_path / 'runs'}", *overrides)
