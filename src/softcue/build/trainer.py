"""Lightning's Trainer and its loggers, from a config."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from softcue.build.instantiate import make, make_each

# Imported where they are used: torch and Lightning take seconds, and a dry run needs neither.
if TYPE_CHECKING:
    import torch
    from lightning import Callback, Trainer
    from lightning.pytorch.loggers import Logger

    from softcue.training.run import Run


def build_trainer(config: DictConfig, *, joint: bool) -> Trainer:
    """Lightning's Trainer with the configured callbacks; for one run or several; without loggers."""
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    from softcue.training.checkpoints import SealedCheckpoints

    callbacks: list[Callback] = make_each(config.get("callbacks"))
    if not (config.trainer.get("enable_progress_bar", True) and sys.stdout.isatty()):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    shows = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if config.search.trial is not None and not joint:
        callbacks.append(make(config.search))
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer: Trainer = make(
        config.trainer,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=saves,
        # Without a bar of ours, Lightning would add its own.
        enable_progress_bar=shows,
        max_steps=-1 if (limit := config.trainer.get("max_steps")) is None else limit,
    )
    trainer.strategy.checkpoint_io = SealedCheckpoints()
    return trainer


def device_of(config: DictConfig) -> torch.device:
    trainer = build_trainer(config, joint=False)
    return trainer.strategy.root_device


def build_loggers(run: Run) -> list[Logger]:
    loggers: list[Logger] = make_each(run.config.get("logger"))
    # By these three, users group and filter the runs of a sweep.
    by = {"method": run.method, "seed": run.seed, "fold": run.config.split.get("fold")}
    for logger in loggers:
        logger.log_hyperparams({**run.settings, **by})
    return loggers
