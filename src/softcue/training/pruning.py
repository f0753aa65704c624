"""A run as a trial of a search: it reports a validation metric and ends early when it lags behind."""

from __future__ import annotations

from typing import Any

import optuna
from lightning import Callback, LightningModule, Trainer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from softcue.errors import ConfigError, PrunedError

STUDY = "softcue"
"""The one study in a search's journal."""


class Pruning(Callback):
    """Reports `metric` after every validation and stops the run if the study's pruner says so.

    Raises:
        ConfigError: validation computes no such metric.
        PrunedError: the pruner stopped the run.
    """

    def __init__(self, *, journal: str, trial: int, metric: str, pruner: optuna.pruners.BasePruner) -> None:
        storage = JournalStorage(JournalFileBackend(journal))
        self.study = optuna.load_study(study_name=STUDY, storage=storage, pruner=pruner)
        (frozen,) = (one for one in self.study.get_trials(deepcopy=False) if one.number == trial)
        self.trial = optuna.Trial(self.study, frozen._trial_id)
        self.metric = metric

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value: Any = trainer.callback_metrics.get(self.metric)
        if value is None:
            raise ConfigError(
                f"search.metric is {self.metric!r}, which validation does not compute; choose one of "
                f"{', '.join(sorted(trainer.callback_metrics))}, and give the run validation rows."
            )
        if trainer.current_epoch not in self._reported:
            self.trial.report(float(value), step=trainer.current_epoch)
        if self.trial.should_prune():
            raise PrunedError(
                f"{self.metric} is {float(value):.3f} in epoch {trainer.current_epoch}, behind other trials"
            )

    @property
    def _reported(self) -> dict[int, float]:
        """Values by epoch, also those reported before an interruption."""
        return self.study._storage.get_trial(self.trial._trial_id).intermediate_values
