"""Rows scored by a prompt: what a metric, a file of predictions and a later paired test need."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.contracts import Batch, PromptBank, Vote
from softcue.evaluation.metrics import LabelMetrics
from softcue.evaluation.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """B rows' class probabilities, and how well the right label was expected.

    `target_B` is -1 for rows without a label, and `nll_B` (the right label's negative
    log-likelihood) NaN for those and for methods without a language model.
    """

    row_B: Tensor
    probability_BC: Tensor
    target_B: Tensor
    nll_B: Tensor
    num_tokens_B: Tensor

    @property
    def predicted_B(self) -> Tensor:
        """The likeliest class of each row."""
        return self.probability_BC.argmax(dim=1)

    def metrics(self, classes: tuple[str, ...]) -> dict[str, float]:
        """Every metric over these rows, all of which must have a label."""
        judge = LabelMetrics(classes, synced=False)
        judge.update(self.probability_BC, self.target_B, self.nll_B, self.num_tokens_B)
        return judge.compute()

    def columns(self, classes: tuple[str, ...], ids: list[str]) -> dict[str, list[object]]:
        """A table of these rows: id, label, prediction, nats, and a probability for each class."""
        named = [classes[index] if index >= 0 else None for index in self.target_B.tolist()]
        table: dict[str, list[object]] = {
            "id": [ids[row] for row in self.row_B.tolist()],
            "label": list(named),
            "predicted": [classes[index] for index in self.predicted_B.tolist()],
            "nll": self.nll_B.tolist(),
        }
        for index, name in enumerate(classes):
            table[f"p({name})"] = self.probability_BC[:, index].tolist()
        return table


def predict_batch(lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> Predictions:
    """Score a batch's classes; by all prompts of the bank at once if it is an ensemble."""
    if bank.vote is None:
        scores = lm.score(bank, batch, batch.choices)
        probability_BC = scoring.scores_BC(scores).softmax(dim=1)
    else:
        of_members = batch.repeat_for_members(bank.num_prompts)
        members = lm.score(bank, of_members, of_members.choices)
        scores, probability_BC = agreed(members, bank.num_prompts, bank.vote, scoring)
    labelled_B = batch.target_B >= 0
    own_B1 = batch.target_B.clamp(min=0)[:, None]
    nll_B = -scores.log_likelihood_BC.gather(1, own_B1).squeeze(1)
    return Predictions(
        row_B=batch.row_B,
        probability_BC=probability_BC,
        target_B=batch.target_B,
        nll_B=nll_B.masked_fill(~labelled_B, float("nan")),
        num_tokens_B=scores.num_tokens_BC.gather(1, own_B1).squeeze(1),
    )


def agreed(members: TargetScores, count: int, vote: Vote, scoring: Scoring) -> tuple[TargetScores, Tensor]:
    """What an ensemble of `count` prompts says of B rows: its label scores and class probabilities [B, C].

    Its likelihood of a label is the mean of its members'. By "mean_likelihood" the probabilities
    follow from that; by "majority" (Lester et al. 2021, section 6) they are the shares of the members'
    votes, with one vote more that follows the mean likelihood and so breaks every tie.
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


@torch.no_grad()
def predict(lm: Backbone, bank: PromptBank, batches: Iterable[Batch], scoring: Scoring) -> Predictions:
    """Score batches in any order; the rows come back in the order of their table."""
    bank = bank.to(lm.device)
    parts = [predict_batch(lm, bank, batch.to(lm.device), scoring) for batch in batches]
    joined = {f.name: torch.cat([getattr(part, f.name).cpu() for part in parts]) for f in fields(Predictions)}
    order = joined["row_B"].argsort()
    return Predictions(**{name: tensor[order] for name, tensor in joined.items()})
