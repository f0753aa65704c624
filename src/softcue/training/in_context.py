"""In-context learning as a learner: each row is read after labelled training rows, by the frozen model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from rich.progress import track

from softcue.backbone.base import Backbone
from softcue.baselines.in_context import InContext
from softcue.contracts import Batch, Ids, PromptBank
from softcue.data.collate import Collator, Example
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import PARTS, Rows, RunData
from softcue.errors import TrainingError
from softcue.evaluation.predictions import Predictions, predict_with
from softcue.evaluation.scoring import Scoring
from softcue.runs.record import Parameters
from softcue.training.learner import Fitted, LMLearner
from softcue.training.progress import hidden

log = logging.getLogger(__name__)


class InContextLearner(LMLearner):
    """Scores rows after a context of training rows and their labels; nothing is trained.

    A training row is itself among those in front of it, as a trained method has seen it too.
    """

    def __init__(self, *, lm: Backbone, chooser: InContext, data: RunData, device: torch.device) -> None:
        super().__init__(lm=lm, device=device)
        self.chooser, self.data = chooser, data

    @classmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        return [Fitted(training=None, seconds=0.0) for _ in learners]

    @property
    def parameters(self) -> Parameters:
        return Parameters(trainable=0, shipped=0, total=self.lm.spec.num_parameters)

    def predict(self, data: PromptData, rows: Rows, scorings: Sequence[Scoring]) -> list[Predictions]:
        lm = self.placed_lm
        examples = self.in_context(data, rows)
        collate = Collator(width="longest" if lm.takes_padded_rows else None)
        size = data.batching.eval_batch_size
        starts = track(range(0, len(examples), size), description="score in context", disable=hidden())
        batches: Iterable[Batch] = (collate(examples[start : start + size]) for start in starts)
        return predict_with(lm, PromptBank(), batches, scorings)

    def in_context(self, data: PromptData, rows: Rows) -> list[Example]:
        """The rows, each after its labelled rows, which only ever are training rows; by length."""
        front, label = len(data.encoder.front), max(map(len, data.choices))
        examples, demonstrations = data.examples(rows), self._demonstrations(data)
        longest = max(len(each.ids) for part in PARTS for each in [*data.examples(part), *examples])
        ranking_BN = self.chooser.ranking(data.texts("train"), data.texts(rows))
        lengths, result = [len(one) for one in demonstrations], []
        for example, ranking_N in zip(examples, ranking_BN, strict=True):
            own = longest if self.chooser.order == "seed" else len(example.ids)
            budget = self.lm.spec.max_positions - own - label
            chosen = self.chooser.chosen(ranking_N, lengths, budget=budget)
            context = [token for row in chosen for token in demonstrations[row]]
            ids = [*example.ids[:front], *context, *example.ids[front:]]
            result.append(replace(example, ids=ids))
        log.info("%d of %d training rows are in front of the last row", len(chosen), len(demonstrations))
        return sorted(result, key=lambda example: len(example.ids))

    def _demonstrations(self, data: PromptData) -> list[Ids]:
        """Each training row with its label and the separator, without the tokens around a whole text."""
        separator = self.lm.spec.tokenize(self.chooser.separator)
        return [(*one.ids, *one.label, *separator) for one in data.demonstrations()]
