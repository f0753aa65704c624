"""What a run that was cut off needs to end as if it had not been: Lightning's checkpoint, and the rest."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from softcue.runs.atomic import atomic_path


class LastState(Checkpoint):
    """Keeps `last.ckpt`, at the start of a batch, at most every so many seconds; 0: at every batch.

    Not behind a batch, as Lightning's own callback does: there, counters and loggers have yet to take
    notice of it, and a resumed run would leave a gap in its curve. To Lightning's checkpoint it adds the
    states of all random number generators, the seconds trained so far, and how often training went on.
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
            # The loader was made to count its batches, before the loops knew where they stand.
            trainer.fit_loop._combined_loader = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._generators is not None:
            # Only now: making loaders draws from the generators too.
            set_generators(self._generators)
            self._generators = None
        elif batch_idx % trainer.accumulate_grad_batches == 0:  # else there are gradients to lose
            due = trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self.every_s)
            if due:
                save(trainer, self.path)
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
        # Lightning counts this up when it loads, for checkpoints made before it was counted.
        loop = trainer.fit_loop.epoch_loop
        if not loop._should_accumulate():
            checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1


@contextmanager
def step_generator(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """While this is open, torch draws what a run of this seed draws in this step, and nothing else moves on.

    So a run draws the same alone and beside others in one process, after it was killed, in every process
    and in every batch of a step.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Torch takes 32 bits of a seed, into which the two numbers are mixed.
        own = int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
        torch.default_generator.manual_seed(own)
        if cuda:
            torch.cuda.manual_seed(own)
        yield


def save(trainer: Trainer, path: Path) -> None:
    """The trainer's state as a whole file in place of the one before; of several processes the first writes.

    Lightning's own way moves it from a temporary folder, which between two disks is a copy that can be
    cut off. RunError for a place that takes no files.
    """
    if trainer.is_global_zero:
        with atomic_path(path) as temporary:
            trainer.save_checkpoint(temporary)
    else:
        trainer.save_checkpoint(path)


def generators() -> dict[str, Any]:
    """The states of torch's, Python's and numpy's generators, of types that load without pickle."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - libraries draw from it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
    }


def set_generators(states: dict[str, Any]) -> None:
    """Put all generators where `generators` found them."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
