"""A classifier of the frozen model's final hidden states as a learner."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from softcue.backbone.base import Backbone
from softcue.baselines.base import StateClassifier
from softcue.contracts import Batch, PromptBank
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Rows, RunData
from softcue.errors import TrainingError
from softcue.evaluation.predictions import Predictions
from softcue.evaluation.scoring import Scoring
from softcue.runs.record import Parameters
from softcue.training.learner import Fitted, LMLearner, only_task
from softcue.training.progress import hidden
from softcue.training.text_baseline import SeenClasses, from_probabilities


class ProbeLearner(LMLearner):
    """Trains a classifier on the model's final states at the ends of one task's rows.

    Raises:
        ConfigError: data of several tasks.
    """

    def __init__(
        self, *, lm: Backbone, classifier: StateClassifier, data: RunData, device: torch.device
    ) -> None:
        super().__init__(lm=lm, device=device)
        self.data, self.classifier = only_task(data), classifier
        self._train_BD: NDArray[np.float32] | None = None

    @classmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        return [learner._fit() for learner in learners]

    @property
    def parameters(self) -> Parameters:
        count = self.classifier.num_parameters
        return Parameters(trainable=count, shipped=count, total=self.lm.spec.num_parameters + count)

    def predict(self, data: PromptData, rows: Rows, scorings: Sequence[Scoring]) -> list[Predictions]:
        known = self._train_BD if rows == "train" else None
        states_BD = self.states(rows) if known is None else known
        probability_BC = self._seen.spread(self.classifier.probabilities(states_BD))
        return [from_probabilities(probability_BC, data.targets(rows))] * len(scorings)

    @torch.no_grad()
    def states(self, rows: Rows) -> NDArray[np.float32]:
        """The model's final hidden state at the last token of each row: [B, D]."""
        lm, parts, numbers = self.placed_lm, [], []
        batches = cast(Iterable[Batch], self.data.eval_dataloader(rows))
        for batch in track(batches, description="read states", disable=hidden()):
            # Any label of one token: its only token is predicted from the row's last state.
            states = lm.states(PromptBank(), batch.to(self.device), [((0,),)] * len(batch))
            parts.append(states.hidden_MD.float().cpu())
            numbers += batch.row_B.tolist()
        states_BD: NDArray[np.float32] = torch.cat(parts)[np.argsort(numbers)].numpy()
        return states_BD

    def _fit(self) -> Fitted:
        began = time.perf_counter()
        self._train_BD = self.states("train")
        self._seen = SeenClasses.of(self.data)
        self.classifier.fit(self._train_BD, self._seen.numbered(self.data.targets("train")))
        return Fitted(training=None, seconds=time.perf_counter() - began)
