"""Accumulated gradients against one large batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from torch import Tensor

from softcue.formats.prompt_file import load_bank
from softcue.runs.store import RunFolder
from tests.cases import slow_but
from tests.running import train_one

Compose = Callable[..., DictConfig]


def prompt_of(folder: RunFolder) -> Tensor:
    tensor = load_bank(folder.prompt_path)[0].embeddings_TPD
    assert tensor is not None
    return tensor


def updated(compose: Compose, tmp_path: Path, *overrides: str) -> Tensor:
    """How far training has moved the prompt."""
    after = prompt_of(train_one(compose(*overrides)))
    start = compose(*overrides, "optimizer.lr=0", f"paths.runs={tmp_path / 'start'}")
    return after - prompt_of(train_one(start))


CASES = {
    "clipped": ["objective=language_model", "trainer.gradient_clip_val=1.0"],
    "not clipped": ["objective=language_model", "trainer.gradient_clip_val=null"],
    "choice": ["objective=choice", "trainer.gradient_clip_val=1.0"],
    "T-Few": ["objective=t_few", "trainer.gradient_clip_val=null"],
    "dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.3", "optimizer.lr=0.001"],
}


@pytest.mark.parametrize("case", slow_but(["clipped"], CASES))
def test_accumulated_gradients_equal_the_large_batch(compose: Compose, tmp_path: Path, case: str) -> None:
    """20 rows: two windows of two batches of 4 and one window of a single batch; labels of unequal length."""
    common = [*CASES[case], "split.num_train=20"]
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
