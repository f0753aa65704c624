"""Lightning's DDP: two processes with half of each batch train what one process trains."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from softcue.runs.store import RunFolder
from tests.cluster.sweeps import SOFTCUE_TRAIN


def trained(*overrides: str, runs: Path) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """The prompt and the test predictions of the command with these overrides."""
    command = [SOFTCUE_TRAIN, *overrides, f"paths.runs={runs}"]
    done = subprocess.run(command, cwd=runs.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = runs.iterdir()
    folder = RunFolder(runs, path.name)
    assert folder.is_complete
    return load_file(folder.prompt_path), pd.read_parquet(folder.predictions_path("test"))


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tiny: list[str], tmp_path: Path) -> None:
    # Labels of one and of two tokens: a plain mean of the processes' gradients would be another one.
    one, rows_of_one = trained(*tiny, "data.batch_size=4", runs=tmp_path / "one")
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=2")
    two, rows_of_two = trained(*tiny, *ddp, runs=tmp_path / "two")

    torch.testing.assert_close(two, one, rtol=0, atol=1e-5)
    pd.testing.assert_frame_equal(rows_of_two, rows_of_one, rtol=0, atol=1e-5)
