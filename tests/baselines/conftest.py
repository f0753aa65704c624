"""Runs on words w0 … w49 and a random model of a few thousand numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tests.composing import train_config
from tests.tiny import tiny_model, tiny_tokenizer

Compose = Callable[..., DictConfig]

TEXTS = ["w5 w6", "w7", "w8 w10 w5", "w6 w6", "w15", "w7 w8", "w13 w5", "w14", "w16 w17", "w18"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, its tokenizer, and a table of ten labelled rows."""
    root = tmp_path_factory.mktemp("baselines")
    tiny_model("llama").save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")
    rows = [f"{text},{label}" for text, label in zip(TEXTS, ["yes", "no"] * 5, strict=True)]
    (root / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    return root


@pytest.fixture
def compose(folder: Path, tmp_path: Path) -> Compose:
    """The config of a run on six training and four test rows."""
    return lambda *overrides: train_config(
        "backbone=local",
        "backbone.name=tiny",
        f"backbone.path={folder / 'model'}",
        "data=table",
        "data.max_length=32",
        'data.instruction="w3 w4"',
        "data.task.name=words",
        'data.task.template="w3 {text} w4"',
        "data.task.classes=[yes,no]",
        "data.task.verbalizer={yes: w11, no: w12}",
        f"data.source.path={folder / 'rows.csv'}",
        "split=few_shot",
        "split.num_train=6",
        "split.num_test=4",
        "data.batch_size=3",
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
        "callbacks.progress_bar=null",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={tmp_path / 'cache'}",
        *overrides,
    )
