"""The learning curve as a file, the loggers of joint runs, and the choices that W&B needs."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from softcue.errors import RunError
from softcue.runs.atomic import unwritable, write_atomic
from softcue.runs.curve import CURVE, CurveRow, read_curve
from softcue.runs.sealed import set_aside

log = logging.getLogger(__name__)


class _NamelessLogger(Logger):
    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The run's config.yaml has them."""


class CurveLogger(_NamelessLogger):
    """Writes `metrics.csv`: each row is on disk as soon as it is logged, and a resumed run appends to it.

    Lightning's CSVLogger deletes the file when it starts and writes every hundredth step.
    """

    def __init__(self, *, save_dir: str) -> None:
        super().__init__()
        self.path = Path(save_dir) / CURVE
        self._columns: list[str] | None = None

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | torch.Tensor], step: int | None = None) -> None:
        row = {name: repr(float(value)) for name, value in metrics.items()} | {"step": str(step)}
        if "epoch" in metrics:
            row["epoch"] = str(int(metrics["epoch"]))
        if self._columns is None:
            self._rewrite([*(old for old in self._rows() if not _is_repeated(old, by=row)), row])
        elif set(row) <= set(self._columns):
            try:
                with self.path.open("a", newline="") as file:
                    file.write(_lines([row], self._columns))
            except OSError as error:
                raise unwritable(self.path, error) from error
        else:
            self._rewrite([*self._rows(), row])

    def _rows(self) -> list[CurveRow]:
        """The file's rows; a damaged file is set aside with a warning and has none."""
        if not self.path.exists():
            return []
        try:
            return read_curve(self.path)
        except RunError as error:
            aside = set_aside(self.path)
            log.warning("%s. It is now %s, and the curve starts again from here.", error, aside.name)
            return []

    def _rewrite(self, rows: list[CurveRow]) -> None:
        self._columns = sorted({name for row in rows for name in row})
        header = dict(zip(self._columns, self._columns, strict=True))
        write_atomic(self.path, _lines([header, *rows], self._columns))


def _is_repeated(old: CurveRow, *, by: CurveRow) -> bool:
    """Whether a row of an earlier process goes when a process writes its first.

    A resumed run trains again from a step on, and writes the rows of that step and all later ones again.
    Scores, which have no epoch, replace earlier ones of the same metrics.
    """
    if "epoch" in by:
        return int(old["step"]) >= int(by["step"])
    return set(old) == set(by)


class JointLogger(_NamelessLogger):
    """Passes metrics on to the runs' own loggers: a name's prefix selects the run and is removed."""

    def __init__(self, loggers: Mapping[str, Sequence[Logger]]) -> None:
        super().__init__()
        self.loggers = loggers

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for prefix, loggers in self.loggers.items():
            own = {
                name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)
            }
            if own:
                for logger in loggers:
                    logger.log_metrics({**own, "epoch": metrics["epoch"]}, step=step)


def _lines(rows: list[CurveRow], columns: list[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue()


def wandb_logger(*, project: str, save_dir: str) -> WandbLogger:
    """A W&B run in `save_dir`: online with an API key, otherwise offline, to be sent by `wandb sync`.

    The runs of one folder, as those of a sweep, form a group. A resumed run keeps its W&B run.
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
        # The default would give all joint runs of a process the first one's W&B run.
        reinit="create_new",
        offline=offline,
    )


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text()
