"""The published tutorial's rows, rebuilt on purpose: what softcue's own settings refuse to express.

`backbone._target_` and `objective._target_` name the two parts. Each defect is a setting of both, so that it
counts towards a run's id.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softcue.backbone import load
from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores, TargetStates
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, Choices, Ids, PromptBank
from softcue.data.pool import Pool, make_pool, pick_examples
from softcue.data.rows import TableRow
from softcue.data.sources import AirlineComplaints
from softcue.data.tables import LoadedTable
from softcue.data.task import Task
from softcue.data.tweets import tweets_file
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import BatchLoss, LanguageModelLoss, Objective, concat


@dataclass(frozen=True, kw_only=True)
class Defects:
    """What is done to rows before the model reads them."""

    trailing_space: bool = False
    """The template ends in a space, and labels begin without one."""
    right_truncation: int | None = None
    """Row and label together lose what is beyond so many vocabulary tokens, the label first."""
    labels_over_prompt: bool = False
    """Labels are aligned with the last tokens of the row instead of following it."""


class TutorialLM(StreamLM):
    """The frozen model, to which rows come as the tutorial makes them."""

    defects: Defects

    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        """As the engine's own, for rows with a space behind or cut at the end: training and scoring."""
        rows = tuple(self.broken(row) for row in batch.rows)
        return super().states(bank, replace(batch, rows=rows), [self.labels(own) for own in choices])

    def broken(self, row: Ids) -> Ids:
        """The row with its space, cut."""
        spaced = (*row, *self._space) if self.defects.trailing_space else row
        limit = self.defects.right_truncation
        if limit is None:
            return spaced
        virtual = sum(token < 0 for token in spaced)
        assert all(token < 0 for token in spaced[:virtual]), "virtual tokens stand in front"
        return spaced[: virtual + limit]

    def labels(self, choices: Choices) -> Choices:
        """The labels' tokens behind a space of the template."""
        if not self.defects.trailing_space:
            return choices
        return tuple(self._without_space(label) for label in choices)

    def examples(self, row: Ids, label: Ids) -> list[tuple[Ids, Ids]]:
        """The beginnings of a row and the tokens that training teaches after them."""
        whole, (label,) = self.broken(row), self.labels((label,))
        if self.defects.labels_over_prompt:
            start = len(whole) - len(label)
            return [(whole[: start + at], (token,)) for at, token in enumerate(label)]
        limit = self.defects.right_truncation
        room = len(label) if limit is None else limit - sum(token >= 0 for token in whole)
        return [(whole, label[:room])] if room > 0 else []

    @property
    def _space(self) -> Ids:
        return tuple(self.spec.tokenize(" "))

    def _without_space(self, label: Ids) -> Ids:
        return tuple(self.spec.tokenize(self.decode(label).removeprefix(" ")))


def from_embedded(*, defects: dict[str, Any], **settings: Any) -> Backbone:
    """The embedded model with some defects in its rows; it shares its weights with the sound one."""
    sound = load.from_embedded(**settings)
    assert type(sound) is StreamLM
    lm = copy.copy(sound)
    lm.__class__ = TutorialLM
    assert isinstance(lm, TutorialLM)
    lm.defects = Defects(**defects)
    return lm


class TutorialLoss(Objective):
    """The label loss on the examples that `TutorialLM` makes of a batch; the tutorial's own is alike.

    A batch whose labels are all cut off has no loss; there, the tutorial's is not a number.
    """

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        return self.losses(lm, [bank], [batch], scoring)[0]

    def losses(
        self, lm: Backbone, banks: Sequence[PromptBank], batches: Sequence[Batch], scoring: Scoring
    ) -> list[BatchLoss]:
        """One pass for all runs that have a label left."""
        assert isinstance(lm, TutorialLM)
        made = [_examples(lm, batch) for batch in batches]
        kept = [at for at, (own, _) in enumerate(made) if len(own)]
        found = {at: _no_loss(banks[at]) for at in range(len(banks)) if at not in kept}
        if kept:
            bank, batch = concat([banks[at] for at in kept], [made[at][0] for at in kept])
            labels = [label for at in kept for label in made[at][1]]
            states = StreamLM.states(lm, bank, batch, [(label,) for label in labels])
            parts = lm.read_scores(states).split([len(made[at][0]) for at in kept])
            found |= {at: _mean(scores) for at, scores in zip(kept, parts, strict=True)}
        return [found[at] for at in range(len(banks))]


def _examples(lm: TutorialLM, batch: Batch) -> tuple[Batch, list[Ids]]:
    rows: list[Ids] = []
    labels: list[Ids] = []
    origins: list[int] = []
    for at, (row, (label,)) in enumerate(zip(batch.rows, batch.target_choices, strict=True)):
        for beginning, tokens in lm.examples(row, label):
            rows.append(beginning)
            labels.append(tokens)
            origins.append(at)
    return replace(batch.select(origins), rows=tuple(rows)), labels


def _mean(scores: TargetScores) -> BatchLoss:
    return LanguageModelLoss().loss(scores, torch.empty(0), Scoring(per_token=False))


def _no_loss(bank: PromptBank) -> BatchLoss:
    zero: Tensor = torch.stack([tensor.sum() for tensor in bank.tensors().values()]).sum() * 0.0
    return BatchLoss(mean=zero, weight=zero.new_ones(()))


@dataclass(frozen=True, kw_only=True)
class Unlabelled:
    """The airline tweets, tested as the tutorial tests: every test row has the label "Unlabeled"."""

    min_confidence: float

    def load(self, task: Task) -> Pool:
        """The same training rows and, held out, the same test rows without their verdicts."""
        known = AirlineComplaints(min_confidence=self.min_confidence).load(task)
        labelled = known.labelled
        rows = [
            TableRow(
                f"unlabelled row {at}",
                {"id": labelled["id"][at], "Tweet text": labelled["Tweet text"][at], "label": "Unlabeled"},
            )
            for at in range(len(labelled))
        ]
        table = LoadedTable(name="unlabelled", columns=tuple(rows[0].values), rows=tuple(rows))
        held_out = pick_examples(table, task, id_column="id", label_column="label")
        free = pick_examples(
            LoadedTable(
                name="labelled",
                columns=table.columns,
                rows=tuple(
                    TableRow(row.where, {**row.values, "label": label})
                    for row, label in zip(rows, labelled["label"], strict=True)
                ),
            ),
            task,
            id_column="id",
            label_column="label",
        )
        return make_pool(task, labelled=free, held_out=held_out, unlabelled=[], where="unlabelled")

    def files(self) -> tuple[Path, ...]:
        return (tweets_file(),)
