"""The curve's file, through whatever ends the process that writes it; and what W&B is told."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from softcue.errors import RunError
from softcue.training.loggers import CurveLogger, wandb_logger


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder: Path, *steps: int) -> CurveLogger:
    logger = CurveLogger(save_dir=str(folder))
    for step in steps:
        logger.log_metrics({"loss": torch.tensor(step / 4), "epoch": step // 2}, step=step)
    return logger


def test_every_row_is_on_disk_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    logger = written(tmp_path, 0)
    for step in (1, 2, 3):
        logger.log_metrics({"loss": 0.5}, step=step)
        assert [row["step"] for row in rows(logger.path)] == [str(number) for number in range(step + 1)]


def test_a_number_comes_back_as_it_was(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    logger = CurveLogger(save_dir=str(tmp_path))
    logger.log_metrics({"loss": value}, step=0)
    assert float(rows(logger.path)[0]["loss"]) == value


def test_a_new_name_gets_a_column_and_the_rows_before_it_none(tmp_path: Path) -> None:
    logger = written(tmp_path, 0, 1)
    logger.log_metrics({"test/macro_f1": 0.5}, step=2)
    assert [row["test/macro_f1"] for row in rows(logger.path)] == ["", "", "0.5"]
    assert [row["loss"] for row in rows(logger.path)] == ["0.0", "0.25", ""]


def test_a_run_that_goes_on_keeps_the_rows_before_and_writes_the_others_again(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = written(tmp_path / "whole", *range(6))
    cut = written(tmp_path / "cut", *range(5))
    with cut.path.open("a") as file:
        file.write("5,0.1")  # a row whose writer was killed
    written(tmp_path / "cut", 3, 4, 5)
    assert cut.path.read_text() == whole.path.read_text()


def test_a_run_that_begins_anew_begins_an_empty_curve(tmp_path: Path) -> None:
    written(tmp_path, 0, 1, 2)
    assert len(rows(written(tmp_path, 0).path)) == 1


def test_a_disk_that_is_full_is_named(tmp_path: Path) -> None:
    logger = written(tmp_path, 0)
    logger.path.unlink()
    logger.path.symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics.csv cannot be written \(No space left on device\)"):
        logger.log_metrics({"loss": 1.0, "epoch": 0}, step=1)


def test_wandb_groups_the_runs_of_a_folder_and_knows_each_again(tmp_path: Path) -> None:
    logger = wandb_logger(project="p", save_dir=str(tmp_path / "my_sweep" / "p_tuning-12"))
    told = logger._wandb_init
    assert (told["group"], told["id"], told["resume"]) == ("my_sweep", "my_sweep-p_tuning-12", "allow")
