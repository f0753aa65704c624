"""Runs that train together against the same runs alone, on the real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from softcue.errors import ConfigError, TrainingError
from softcue.formats.prompt_file import load_bank
from softcue.runs.store import RunFolder
from softcue.train import train, train_jointly

Quickstart = Callable[..., DictConfig]
BRIEF = ("split.num_train=10", "split.num_test=4", "trainer.max_epochs=2")
# An LSTM's dropout is off by default; drawn masks would differ.
METHODS = [
    "prefix_tuning",
    "p_tuning",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("prompt_tuning_suffix", "p_tuning_lstm")),
]


def tensors(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_bank(folder.prompt_path)[0].tensors()


def curve(folder: RunFolder) -> pd.DataFrame:
    return pd.read_csv(folder.path / "metrics.csv").dropna(subset="train/loss")


@pytest.mark.parametrize("method", METHODS)
def test_each_member_equals_its_solo_run(quickstart: Quickstart, tmp_path: Path, method: str) -> None:
    """Different seeds: other rows, another order, another start."""
    # AdamW's first steps go by a gradient's sign: where it is next to nothing, rounding turns the step.
    common = (*BRIEF, f"prompt={method}", "optimizer.lr=0.001")
    packed = train_jointly(quickstart(*common, "joint.seed=[0,1]"))
    for seed, together in enumerate(packed):
        alone = train(quickstart(*common, f"seed={seed}", f"paths.runs={tmp_path / 'solo'}"))
        assert together.path.name == alone.path.name
        expected = tensors(alone)
        for name, tensor in tensors(together).items():
            assert torch.allclose(tensor, expected[name], atol=1e-4, rtol=1e-4)
        ours, theirs = together.record(), alone.record()
        assert ours is not None
        assert theirs is not None
        assert ours.training is not None
        assert ours.training.joint == 2
        for name, value in theirs.metrics["test"].items():
            assert ours.metrics["test"][name] == pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True)
        for column in ("train/loss", "learning_rate", "step", "epoch"):
            assert curve(together)[column].tolist() == pytest.approx(
                curve(alone)[column].tolist(), rel=1e-4, abs=1e-4
            )


def test_learning_rates_pack_and_complete_members_are_not_run_again(quickstart: Quickstart) -> None:
    first = train_jointly(quickstart(*BRIEF, "joint.learning_rate=[0.01,0.001]"))
    written = [folder.record_path.stat().st_mtime_ns for folder in first]
    again = train_jointly(quickstart(*BRIEF, "joint.learning_rate=[0.01,0.001,0.0001]"))
    assert [folder.path for folder in again[:2]] == [folder.path for folder in first]
    assert [folder.record_path.stat().st_mtime_ns for folder in again[:2]] == written
    assert again[2].is_complete


def test_a_member_that_diverges_fails_alone(quickstart: Quickstart) -> None:
    settings = quickstart(
        *BRIEF, "prompt=prefix_tuning", "scheduler=constant", "joint.learning_rate=[0.01,3e37]"
    )
    with pytest.raises(TrainingError, match=r"no longer finite.*lower optimizer.lr"):
        train_jointly(settings)
    records = [RunFolder(path, "").record() for path in Path(settings.paths.runs).iterdir()]
    assert sorted(record.status for record in records if record) == ["complete", "failed"]


def test_what_cannot_train_together_is_refused(quickstart: Quickstart) -> None:
    early = quickstart(*BRIEF, "joint.seed=[0,1]", "callbacks=early_stopping", "split.num_validation=4")
    early.callbacks.progress_bar = None
    with pytest.raises(ConfigError, match="callbacks=default"):
        train_jointly(early)
