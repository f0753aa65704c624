"""A user's own table, and the settings with which a tiny model trains on it in a second."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, for `backbone=local`."""
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)


@pytest.fixture
def quick(tiny_backbone: Path, tmp_path: Path) -> list[str]:
    """Overrides for one quick run of a tiny model under `tmp_path`."""
    return [
        *("backbone=local", f"backbone.path={tiny_backbone}", "backbone.name=tiny"),
        *(f"paths.cache={CACHE}", f"paths.runs={tmp_path / 'runs'}", "trainer.max_epochs=1"),
        *("callbacks.progress_bar=null", "trainer.enable_progress_bar=false"),
        *("split=few_shot", "split.num_train=8", "split.num_test=6"),
    ]


@pytest.fixture
def own_command(quick: list[str]) -> list[str]:
    """Overrides for a run on a table, whose path, classes and verbalizer are not given yet."""
    return [*quick, "data=table", "data.task.name=reviews", "data.task.template='Review : {text} Verdict :'"]


@pytest.fixture
def own_table(own_command: list[str]) -> Compose:
    """The composed config of `own_command` and further overrides."""
    return lambda *overrides: train_config(*own_command, *overrides)


def write_reviews(folder: Path, labels: Sequence[str], *, name: str = "reviews.csv") -> Path:
    """A CSV of 24 texts, each with one of the labels in turn."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((f"the text of review {at}", labels[at % len(labels)]) for at in range(24))
    return path
