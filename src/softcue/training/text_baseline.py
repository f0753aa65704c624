"""A text classifier as a learner, on the same rows as soft prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
        probability_BC = self.classifier.probabilities(data.texts(rows))
        return [from_probabilities(probability_BC, data.targets(rows))] * len(scorings)

    def _fit(self) -> Fitted:
        began = time.perf_counter()
        self.classifier.fit(self.data.texts("train"), self.data.targets("train"))
        return Fitted(training=None, seconds=time.perf_counter() - began)


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
