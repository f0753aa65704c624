"""The same prompt by another way: gradients accumulated, or runs that train together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from softcue.errors import ConfigError
from softcue.formats.prompt_file import load_bank
from softcue.runs.store import RunFolder
from softcue.train import train, train_jointly

Compose = Callable[..., DictConfig]


def prompt_of(folder: RunFolder) -> Tensor:
    tensor = load_bank(folder.prompt_path)[0].embeddings_TPD
    assert tensor is not None
    return tensor


def updated(compose: Compose, tmp_path: Path, *overrides: str) -> Tensor:
    """How far training has moved the prompt."""
    after = prompt_of(train(compose(*overrides)))
    before = prompt_of(train(compose(*overrides, "optimizer.lr=0", f"paths.runs={tmp_path / 'start'}")))
    return after - before


@pytest.mark.parametrize(
    "case",
    [
        ["objective=language_model", "trainer.gradient_clip_val=1.0"],
        ["objective=language_model", "trainer.gradient_clip_val=null"],
        ["objective=choice", "trainer.gradient_clip_val=1.0"],
        ["prompt=p_tuning_lstm", "prompt.method.dropout=0.3", "optimizer.lr=0.001"],
    ],
    ids=["clipped", "not clipped", "choice", "dropout"],
)
def test_accumulated_gradients_equal_the_large_batch(
    compose: Compose, tmp_path: Path, case: list[str]
) -> None:
    """20 rows: two windows of two batches of 4 and one window of a single batch; labels of unequal length."""
    common = [*case, "split.num_train=20"]
    # Its second moments start at 0, where Adam's sign would turn rounding into a step.
    common += [
        "optimizer=adafactor",
        "scheduler=constant",
        "data.task.verbalizer.complaint='a real complaint'",
    ]
    large = updated(compose, tmp_path, *common, "data.batch_size=8")
    accumulated = updated(
        compose, tmp_path, *common, "data.batch_size=4", "trainer.accumulate_grad_batches=2"
    )
    assert (accumulated - large).abs().max() <= 1e-5 * large.abs().max()


def test_members_of_a_joint_run_accumulate_as_they_would_alone(compose: Compose, tmp_path: Path) -> None:
    common = ["split.num_train=20", "trainer.accumulate_grad_batches=2", "optimizer.lr=0.001"]
    together = train_jointly(compose(*common, "joint.seed=[0,1]"))
    for seed, folder in enumerate(together):
        alone = train(compose(*common, f"seed={seed}", f"paths.runs={tmp_path / 'alone'}"))
        torch.testing.assert_close(prompt_of(folder), prompt_of(alone), rtol=1e-4, atol=1e-5)


def test_members_of_a_joint_run_draw_the_dropout_that_they_would_alone(
    compose: Compose, tmp_path: Path
) -> None:
    common = ["prompt=p_tuning_lstm", "prompt.method.dropout=0.3", "optimizer.lr=0.001"]
    together = train_jointly(compose(*common, "joint.seed=[0,1]"))
    for seed, folder in enumerate(together):
        alone = train(compose(*common, f"seed={seed}", f"paths.runs={tmp_path / 'alone'}"))
        torch.testing.assert_close(prompt_of(folder), prompt_of(alone), rtol=1e-4, atol=1e-5)


def test_runs_that_train_together_over_several_processes_are_refused(compose: Compose) -> None:
    settings = compose("joint.seed=[0,1]", "trainer=ddp", "trainer.accelerator=cpu")
    with pytest.raises(ConfigError, match=r"one process, and trainer \(.*'devices': 2.*\) makes 2"):
        train_jointly(settings)
    assert not list(Path(settings.paths.runs).glob("*/record.json"))
