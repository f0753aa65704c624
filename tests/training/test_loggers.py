"""The curve's file, whatever interrupts its writer; the loggers of joint runs; the settings of W&B."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from softcue.errors import RunError
from softcue.sweep.curve import last_point
from softcue.training.loggers import CurveLogger, JointLogger, wandb_logger


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


def test_a_number_is_read_back_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    logger = CurveLogger(save_dir=str(tmp_path))
    logger.log_metrics({"loss": value}, step=0)
    assert float(rows(logger.path)[0]["loss"]) == value


def test_a_new_name_gets_a_column_that_is_empty_in_earlier_rows(tmp_path: Path) -> None:
    logger = written(tmp_path, 0, 1)
    logger.log_metrics({"test/macro_f1": 0.5}, step=2)
    assert [row["test/macro_f1"] for row in rows(logger.path)] == ["", "", "0.5"]
    assert [row["loss"] for row in rows(logger.path)] == ["0.0", "0.25", ""]


def test_scores_that_are_added_later_leave_the_curve_and_other_scores(tmp_path: Path) -> None:
    written(tmp_path, 1, 2).log_metrics({"test/macro_f1": 0.5}, step=2)
    later = CurveLogger(save_dir=str(tmp_path))
    later.log_metrics({"train/macro_f1": 0.9}, step=2)
    later.log_metrics({"test/macro_f1": 0.5}, step=2)
    again = CurveLogger(save_dir=str(tmp_path))
    again.log_metrics({"train/macro_f1": 0.8}, step=2)
    found = rows(again.path)
    assert [row["loss"] for row in found if row["loss"]] == ["0.25", "0.5"]
    assert [row["train/macro_f1"] for row in found if row["train/macro_f1"]] == ["0.8"]
    assert {row["test/macro_f1"] for row in found} == {"", "0.5"}


def test_a_resumed_run_keeps_earlier_rows_and_writes_the_others_again(tmp_path: Path) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = written(tmp_path / "whole", *range(6))
    cut = written(tmp_path / "cut", *range(5))
    with cut.path.open("a") as file:
        file.write("5,0.1")  # the writer was killed within this row
    written(tmp_path / "cut", 3, 4, 5)
    assert cut.path.read_text() == whole.path.read_text()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a byte that is no text": lambda content: b"\xff" + content[1:],
    "a word for a number": lambda content: content.replace(b"0.25", b"x"),
    "a cell too many": lambda content: content.replace(b"0.25", b"0.25,1"),
    "no step": lambda content: content.replace(b"step", b"stop"),
    "a stray quote": lambda content: content.replace(b"0.25", b'"0.2"5'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_curve_is_named_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = written(tmp_path, 0, 1, 2).path
    damaged = DAMAGE[damage](path.read_bytes())
    path.write_bytes(damaged)
    last_point(path)
    written(tmp_path, 3)
    assert f"{path} is damaged (" in caplog.text
    assert [row["step"] for row in rows(path)] == ["3"]
    assert path.with_name("metrics.csv.set_aside").read_bytes() == damaged


def test_a_run_that_starts_from_the_beginning_starts_an_empty_curve(tmp_path: Path) -> None:
    written(tmp_path, 0, 1, 2)
    assert len(rows(written(tmp_path, 0).path)) == 1


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    logger = written(tmp_path, 0)
    logger.path.unlink()
    logger.path.symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"metrics.csv cannot be written \(No space left on device\)"):
        logger.log_metrics({"loss": 1.0, "epoch": 0}, step=1)


def test_wandb_groups_the_runs_of_a_folder_and_resumes_each(tmp_path: Path) -> None:
    logger = wandb_logger(project="p", save_dir=str(tmp_path / "my_sweep" / "p_tuning-12"))
    settings = logger._wandb_init
    assert (settings["group"], settings["id"], settings["resume"]) == (
        "my_sweep",
        "my_sweep-p_tuning-12",
        "allow",
    )


def test_each_joint_run_logs_its_own_metrics_under_their_own_names(tmp_path: Path) -> None:
    own = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        own[f"{name}:"] = [CurveLogger(save_dir=str(tmp_path / name))]
    logger = JointLogger(own)
    logger.log_metrics({"one:train/loss": 0.5, "two:train/loss": 0.25, "epoch": 0}, step=3)
    logger.log_metrics({"two:train/loss": 0.125, "epoch": 1}, step=4)
    assert rows(tmp_path / "one" / "metrics.csv") == [{"epoch": "0", "step": "3", "train/loss": "0.5"}]
    assert [row["train/loss"] for row in rows(tmp_path / "two" / "metrics.csv")] == ["0.25", "0.125"]


@pytest.mark.slow
def test_joint_runs_have_a_wandb_run_each(tmp_path: Path) -> None:
    experiments = [
        wandb_logger(project="p", save_dir=str(tmp_path / name)).experiment for name in ("one", "two")
    ]
    try:
        assert [Path(experiment.dir).relative_to(tmp_path).parts[0] for experiment in experiments] == [
            "one",
            "two",
        ]
    finally:
        for experiment in experiments:
            experiment.finish()
