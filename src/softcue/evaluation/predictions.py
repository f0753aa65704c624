"""Class probabilities of rows, as metrics, prediction files and paired tests need them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.contracts import Batch, PromptBank, Vote
from softcue.evaluation.calibration import calibrated
from softcue.evaluation.metrics import MetricFactory, metrics_of
from softcue.evaluation.scoring import Scoring
from softcue.runs.record import Calibration


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Class probabilities of B rows, and the likelihood of the right label.

    A text that follows a row counts as its label, which is the only one.

    `target_B` is -1 for rows without a label. `nll_B`, the right label's negative log-likelihood in nats,
    is NaN for those and for methods without a language model; `num_tokens_B` is that label's length.
    """

    row_B: Tensor
    probability_BC: Tensor
    target_B: Tensor
    nll_B: Tensor
    num_tokens_B: Tensor

    @property
    def predicted_B(self) -> Tensor:
        """The most likely class of each row."""
        return self.probability_BC.argmax(dim=1)

    def calibrated(self, calibration: Calibration) -> Predictions:
        """The same rows with other class probabilities; the likelihood of the label stays the model's."""
        return replace(self, probability_BC=calibrated(self.probability_BC, calibration))

    def metrics(
        self, classes: tuple[str, ...], own: Mapping[str, MetricFactory] = MappingProxyType({})
    ) -> dict[str, float]:
        """Every metric over these rows, all of which must have a label, and the user's own."""
        metrics = metrics_of(classes, synced=False, own=own)
        metrics.update(self.probability_BC, self.target_B, self.nll_B, self.num_tokens_B)
        return metrics.compute()

    def columns(
        self, classes: tuple[str, ...], *, ids: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[object]]:
        """A table's columns: id, text, label, prediction, nll, a probability for each class."""
        labels = [classes[index] if index >= 0 else None for index in self.target_B.tolist()]
        table: dict[str, list[object]] = {
            "id": [ids[row] for row in self.row_B.tolist()],
            "text": [texts[row] for row in self.row_B.tolist()],
            "label": list(labels),
            "predicted": [classes[index] for index in self.predicted_B.tolist()],
            "nll": self.nll_B.tolist(),
        }
        for index, name in enumerate(classes):
            table[f"p({name})"] = self.probability_BC[:, index].tolist()
        return table

    def text_columns(
        self, references: Sequence[Sequence[str]], *, ids: Sequence[str], texts: Sequence[str]
    ) -> dict[str, list[object]]:
        """A text task's columns: id, text, label (the first reference), all references, nll."""
        order = self.row_B.tolist()
        own = [references[row] for row in order]
        return {
            "id": [ids[row] for row in order],
            "text": [texts[row] for row in order],
            "label": [texts[0] if texts else None for texts in own],
            "references": [list(texts) for texts in own],
            "nll": self.nll_B.tolist(),
        }


def predict_batch(lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> Predictions:
    """Score a batch's classes, without calibration."""
    return predict_batch_with(lm, bank, batch, [scoring])[0]


def predict_batch_with(
    lm: Backbone, bank: PromptBank, batch: Batch, scorings: Sequence[Scoring]
) -> list[Predictions]:
    """One pass of a batch for several scorings; all prompts of an ensemble score each row in it."""
    if bank.vote is None:
        scores = lm.score(bank, batch, batch.choices)
        return [_predictions(batch, scores, scoring.scores_BC(scores).softmax(dim=1)) for scoring in scorings]
    repeated = batch.repeat_for_members(bank.num_prompts)
    members = lm.score(bank, repeated, repeated.choices)
    combined = [combine_votes(members, bank.num_prompts, bank.vote, scoring) for scoring in scorings]
    return [_predictions(batch, scores, probability_BC) for scores, probability_BC in combined]


def _predictions(batch: Batch, scores: TargetScores, probability_BC: Tensor) -> Predictions:
    labelled_B = batch.target_B >= 0
    target_B1 = batch.target_B.clamp(min=0)[:, None]
    nll_B = -scores.log_likelihood_BC.gather(1, target_B1).squeeze(1)
    return Predictions(
        row_B=batch.row_B,
        probability_BC=probability_BC,
        target_B=batch.target_B,
        nll_B=nll_B.masked_fill(~labelled_B, float("nan")),
        num_tokens_B=scores.num_tokens_BC.gather(1, target_B1).squeeze(1),
    )


def combine_votes(
    members: TargetScores, count: int, vote: Vote, scoring: Scoring
) -> tuple[TargetScores, Tensor]:
    """Label scores and class probabilities [B, C] of an ensemble of `count` prompts, for B rows.

    The ensemble's likelihood of a label is the mean over its members. With "mean_likelihood", that
    determines the probabilities. With "majority" (Lester et al. 2021, section 6), they are the shares of
    the members' votes, with one additional vote, split by mean likelihood, that breaks ties.
    """
    log_likelihood_BMC = members.log_likelihood_BC.unflatten(0, (-1, count))
    scores = TargetScores(
        log_likelihood_BC=log_likelihood_BMC.logsumexp(dim=1) - math.log(count),
        num_tokens_BC=members.num_tokens_BC[::count],
    )
    mean_BC = scoring.scores_BC(scores).softmax(dim=1)
    if vote == "mean_likelihood":
        return scores, mean_BC
    choice_BM = scoring.scores_BC(members).unflatten(0, (-1, count)).argmax(dim=2)
    votes_BC = one_hot(choice_BM, mean_BC.shape[1]).sum(dim=1)
    return scores, (votes_BC + mean_BC) / (count + 1)


def predict(lm: Backbone, bank: PromptBank, batches: Iterable[Batch], scoring: Scoring) -> Predictions:
    """Score batches in any order, without calibration; the rows of the result are in their table's order."""
    return predict_with(lm, bank, batches, [scoring])[0]


@torch.no_grad()
def predict_with(
    lm: Backbone, bank: PromptBank, batches: Iterable[Batch], scorings: Sequence[Scoring]
) -> list[Predictions]:
    """As `predict`, for several scorings of one pass."""
    bank = bank.to(lm.device)
    parts = [predict_batch_with(lm, bank, batch.to(lm.device), scorings) for batch in batches]
    return [_in_order(own) for own in zip(*parts, strict=True)]


def _in_order(parts: Sequence[Predictions]) -> Predictions:
    joined = {f.name: torch.cat([getattr(part, f.name).cpu() for part in parts]) for f in fields(Predictions)}
    order = joined["row_B"].argsort()
    return Predictions(**{name: tensor[order] for name, tensor in joined.items()})
