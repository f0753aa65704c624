"""A text classifier as a learner, on the same rows as soft prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from softcue.baselines.base import TextClassifier
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Rows, RunData
from softcue.errors import TrainingError
from softcue.evaluation.predictions import Predictions
from softcue.evaluation.scoring import Scoring
from softcue.runs.record import Parameters
from softcue.training.learner import Fitted, Learner, only_task


class TextBaseline(Learner):
    """Trains a classifier on the texts of one task.

    Raises:
        ConfigError: data of several tasks.
    """

    def __init__(self, *, classifier: TextClassifier, data: RunData) -> None:
        self.data, self.classifier = only_task(data), classifier

    @classmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        return [learner._fit() for learner in learners]

    @property
    def parameters(self) -> Parameters:
        count = self.classifier.num_parameters
        return Parameters(trainable=count, shipped=count, total=count)

    def predict(self, data: PromptData, rows: Rows, scorings: Sequence[Scoring]) -> list[Predictions]:
        probability_BP = self.classifier.probabilities(data.texts(rows))
        return [from_probabilities(self._seen.spread(probability_BP), data.targets(rows))] * len(scorings)

    def _fit(self) -> Fitted:
        began = time.perf_counter()
        self._seen = SeenClasses.of(self.data)
        self.classifier.fit(self.data.texts("train"), self._seen.numbered(self.data.targets("train")))
        return Fitted(training=None, seconds=time.perf_counter() - began)


@dataclass(frozen=True, kw_only=True)
class SeenClasses:
    """The P of C classes that training rows have, which a classifier numbers from 0; others get 0."""

    index_P: NDArray[np.int64]
    num_classes: int

    @classmethod
    def of(cls, data: PromptData) -> SeenClasses:
        """Those of a task's training rows."""
        index_P = np.unique(np.asarray(data.targets("train"), dtype=np.int64))
        return cls(index_P=index_P, num_classes=len(data.task.classes))

    def numbered(self, targets: Sequence[int]) -> list[int]:
        """Targets by their place among the seen classes."""
        found: list[int] = np.searchsorted(self.index_P, targets).tolist()
        return found

    def spread(self, probability_BP: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the seen classes as those of all classes: [B, C]."""
        probability_BC = np.zeros((len(probability_BP), self.num_classes))
        probability_BC[:, self.index_P] = probability_BP
        return probability_BC


def from_probabilities(probability_BC: NDArray[np.float64], targets: Sequence[int]) -> Predictions:
    """The predictions of a classifier without label tokens, which sum and mean score alike."""
    count = len(probability_BC)
    return Predictions(
        row_B=torch.arange(count),
        probability_BC=torch.from_numpy(probability_BC).float(),
        target_B=torch.tensor(targets),
        nll_B=torch.full((count,), float("nan")),
        num_tokens_B=torch.ones(count),
    )
