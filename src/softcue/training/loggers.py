"""The learning curve as a file, and loggers that need a decision before they start."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from softcue.runs.atomic import unwritable, write_atomic

Row = dict[str, str]


class CurveLogger(Logger):
    """`metrics.csv`: every row on disk as it comes, and a run that goes on writes on.

    Lightning's own CSVLogger deletes the file when it starts and writes every hundredth step.
    """

    def __init__(self, *, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | torch.Tensor], step: int | None = None) -> None:
        row = {name: repr(float(value)) for name, value in metrics.items()} | {"step": str(step)}
        if "epoch" in metrics:
            row["epoch"] = str(int(metrics["epoch"]))
        if self._columns is None:
            # Of rows that an earlier process left, those from this step on are about to come again.
            earlier = [old for old in self._rows() if int(old["step"]) < int(step or 0)]
            self._rewrite([*earlier, row])
        elif set(row) <= set(self._columns):
            try:
                with self.path.open("a", newline="") as file:
                    file.write(_lines([row], self._columns))
            except OSError as error:
                raise unwritable(self.path, error) from error
        else:
            self._rewrite([*self._rows(), row])

    def _rows(self) -> list[Row]:
        """The file's rows; the last one only if it is whole."""
        if not self.path.exists():
            return []
        whole = self.path.read_text().rpartition("\n")[0]
        rows = csv.DictReader(io.StringIO(whole))
        return [{name: value for name, value in row.items() if value} for row in rows]

    def _rewrite(self, rows: list[Row]) -> None:
        self._columns = sorted({name for row in rows for name in row})
        header = dict(zip(self._columns, self._columns, strict=True))
        write_atomic(self.path, _lines([header, *rows], self._columns))


def _lines(rows: list[Row], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def wandb_logger(*, project: str, save_dir: str) -> WandbLogger:
    """A W&B run in `save_dir`: online with an API key, else offline until `wandb sync`.

    Runs of one folder, as those of a sweep, are a group; one that goes on is the same run.
    """
    offline = os.environ.get("WANDB_MODE") == "offline" or not _has_key()
    folder = Path(save_dir)
    return WandbLogger(
        project=project,
        save_dir=save_dir,
        name=folder.name,
        id=f"{folder.parent.name}-{folder.name}",
        group=folder.parent.name,
        resume="allow",
        offline=offline,
    )


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text()
