"""Joint training against the same runs alone, on the real model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from softcue.execute import train
from softcue.formats.prompt_file import load_bank
from tests.running import train_one

Quickstart = Callable[..., DictConfig]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["prefix_tuning", "p_tuning", "prompt_tuning_suffix", "p_tuning_lstm"])
def test_each_run_equals_itself_alone(quickstart: Quickstart, tmp_path: Path, method: str) -> None:
    # AdamW's first steps follow a gradient's sign: near zero, rounding changes the step.
    common = ["split.num_train=10", "split.num_test=4", "trainer.max_epochs=2", "optimizer.lr=0.001"]
    for seed, folder in enumerate(train(quickstart(*common, f"prompt={method}", "joint.seed=[0,1]"))):
        other = f"paths.runs={tmp_path / 'alone'}"
        alone = train_one(quickstart(*common, f"prompt={method}", f"seed={seed}", other))
        ours, theirs = load_bank(folder.prompt_path)[0].tensors(), load_bank(alone.prompt_path)[0].tensors()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
