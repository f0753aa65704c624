"""Exact resume: Lightning's checkpoint, and what it lacks to continue as if there had been no break."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from softcue.errors import RunError
from softcue.runs.sealed import read_sealed, set_aside
from softcue.training.checkpoints import read_checkpoint
from softcue.training.process import is_first_process
from softcue.training.randomness import generators, set_generators

log = logging.getLogger(__name__)


class LastState(Checkpoint):
    """Saves `last.ckpt` at the start of a batch, at most every `every_s` seconds; 0: at every batch.

    Lightning's own callback saves after a batch, before counters and loggers have registered it, which
    leaves a gap in a resumed run's curve. This one adds the states of all random number generators, the
    seconds trained so far and the number of resumes to Lightning's checkpoint.
    """

    def __init__(self, *, dirpath: str, every_s: float) -> None:
        self.path, self.every_s = Path(dirpath) / "last.ckpt", every_s
        self.seconds_before, self.resumes = 0.0, 0
        self._generators: dict[str, Any] | None = None
        self._began = self._saved_at = time.monotonic()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._generators is not None:
            # Lightning made the loader, to count its batches, before it restored the loop's position.
            trainer.fit_loop._combined_loader = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._generators is not None:
            # Not earlier: making the loaders draws from the generators too.
            set_generators(self._generators)
            self._generators = None
        elif batch_idx % trainer.accumulate_grad_batches == 0:  # otherwise gradients would be lost
            due = trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self.every_s)
            if due:
                trainer.save_checkpoint(self.path)
                self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {
            "generators": generators(),
            "seconds": self.seconds_before + time.monotonic() - self._began,
            "resumes": self.resumes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._generators = state_dict["generators"]
        self.seconds_before = state_dict["seconds"]
        self.resumes = state_dict["resumes"] + 1

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning adds 1 when it loads this number, as for checkpoints saved after a batch.
        loop = trainer.fit_loop.epoch_loop
        if not loop._should_accumulate():
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


def last_state(trainer: Trainer) -> LastState | None:
    """The trainer's callback that saves its state, if it has one."""
    found = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastState)]
    return found[0] if found else None


def resumable(checkpoint: Path, run_ids: Sequence[str]) -> Path | None:
    """The checkpoint to resume from, or None if there is none or it is of no use.

    One that is damaged or another run's is set aside with a warning. `run_ids` are the runs that train
    together.
    """
    if not checkpoint.exists():
        return None
    try:
        state = read_checkpoint(checkpoint)
        _expect_runs(state, run_ids, checkpoint)
        _expect_best(state)
    except (RunError, KeyError, RuntimeError, UnpicklingError) as error:
        if is_first_process():
            aside = set_aside(checkpoint)
            log.warning("%s. It is now %s, and training starts from the beginning.", error, aside.name)
        return None
    log.info("resuming after step %d, from %s", state["global_step"], checkpoint)
    return checkpoint


def _expect_runs(state: Mapping[str, Any], run_ids: Sequence[str], checkpoint: Path) -> None:
    saved = state["members"]["run_ids"]
    if saved != list(run_ids):
        raise RunError(f"{checkpoint} is the state of other runs ({', '.join(saved)})")


def _expect_best(state: Mapping[str, Any]) -> None:
    """Read the best checkpoint so far, which such a state refers to."""
    for callback in state["callbacks"].values():
        if best := callback.get("best_model_path"):
            read_sealed(Path(best))
