"""What shows how far training is: a bar in a terminal, a line for each epoch anywhere else."""

from __future__ import annotations

import logging
import sys
import time

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn

from softcue.tables.table import duration

log = logging.getLogger(__name__)


def hidden() -> bool:
    """Whether bars would go to a file or a pipe, where they are noise."""
    return not sys.stdout.isatty()


class Bar(RichProgressBar):
    """A bar that fits into 80 columns: epoch, batches, time left and loss."""

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(),
        ]


class EpochLog(Callback):
    """Logs a line after each epoch, if there is no terminal to show a bar in."""

    def __init__(self) -> None:
        self._began, self._first = 0.0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if hidden() and trainer.is_global_zero:
            log.info(self._line(trainer))

    def _line(self, trainer: Trainer) -> str:
        done = trainer.current_epoch + 1
        values = trainer.callback_metrics
        shown = [
            f"{title} {float(values[name]):.4g}"
            for title, name in (("loss", "loss"), ("validation macro-F1", "validation/macro_f1"))
            if name in values
        ]
        total = trainer.max_epochs
        if total and total > 0:
            each = (time.monotonic() - self._began) / (done - self._first)
            shown.append(f"about {duration(each * (total - done))} left" if done < total else "done")
        return f"epoch {done}{f' of {total}' if total and total > 0 else ''}: {', '.join(shown)}"
