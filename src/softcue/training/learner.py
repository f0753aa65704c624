"""The interface of everything that learns from a run's rows: soft prompts and baselines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

import torch

from softcue.backbone.base import Backbone
from softcue.contracts import Decoding
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Rows, RunData
from softcue.errors import ConfigError, TrainingError
from softcue.evaluation.metrics import MetricFactory
from softcue.evaluation.predictions import Predictions
from softcue.evaluation.scoring import Scoring
from softcue.evaluation.texts import Generated
from softcue.runs.record import Parameters, Training
from softcue.runs.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The end of a run's training, and its share of the time.

    `training` is None for a method that does not train step by step.
    """

    training: Training | None
    seconds: float


class Learner(ABC):
    """What a run trains and scores.

    `backbone`, `dtype` and `engine` describe the language model; None without one.
    """

    backbone: str | None = None
    dtype: str | None = None
    engine: str | None = None
    own_metrics: Mapping[str, MetricFactory] = MappingProxyType({})
    """The user's own, by name."""
    decoding: Decoding | None = None
    """How texts are generated; None: not at all."""

    @classmethod
    @abstractmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        """Train one learner or several jointly, resuming from `checkpoint` if it holds their state.

        The result of one that diverges is its error.
        """

    @property
    @abstractmethod
    def parameters(self) -> Parameters:
        """How many numbers are trained, saved and used in all."""

    @abstractmethod
    def predict(self, data: PromptData, rows: Rows, scorings: Sequence[Scoring]) -> list[Predictions]:
        """Uncalibrated class probabilities for rows of one task, under each scoring, in one pass."""

    def generate(self, data: PromptData, rows: Rows, decoding: Decoding) -> Generated:
        """The text after each row of one task."""
        raise AssertionError("`build.validate` refuses texts for a method that chooses among classes")

    def restore(self, folder: RunFolder, training: Training) -> None:
        """Restore the state that `fit` reached, from the file that `save` wrote."""
        raise AssertionError("only what trains step by step is restored")

    # Without steps there is no curve to log, and most baselines save and open nothing.

    def log(self, metrics: Mapping[str, float]) -> None:  # noqa: B027
        """Log metrics, by names such as `test/macro_f1`."""

    def save(self, folder: RunFolder) -> None:  # noqa: B027
        """Write the result of training, as users take it from the run's folder."""

    def close(self, *, failed: bool) -> None:  # noqa: B027
        """Close loggers."""


class LMLearner(Learner):
    """A learner that reads a frozen model and trains nothing in it."""

    def __init__(self, *, lm: Backbone, device: torch.device) -> None:
        self.lm, self.device = lm, device
        self.backbone = lm.spec.name
        self.dtype = str(lm.dtype).removeprefix("torch.")
        self.engine = lm.engine

    @property
    def placed_lm(self) -> Backbone:
        """The model on its device."""
        return self.lm.to(self.device)


def only_task(data: RunData) -> PromptData:
    """The rows of the only task.

    Raises:
        ConfigError: data of several tasks.
    """
    if len(data.tasks) > 1:
        raise ConfigError(
            f"this baseline learns one task, and data.tasks has {len(data.tasks)}: {', '.join(data.tasks)}. "
            "Choose one of them as data, or a soft prompt as prompt."
        )
    (task,) = data.tasks.values()
    return task
