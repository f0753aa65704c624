"""Class probabilities of rows, as metrics, prediction files and paired tests need them."""

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
    """Class probabilities of B rows, and the likelihood of the right label.

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

    def metrics(self, classes: tuple[str, ...]) -> dict[str, float]:
        """Every metric over these rows, all of which must have a label."""
        metrics = LabelMetrics(classes, synced=False)
        metrics.update(self.probability_BC, self.target_B, self.nll_B, self.num_tokens_B)
        return metrics.compute()

    def columns(self, classes: tuple[str, ...], ids: list[str]) -> dict[str, list[object]]:
        """The columns of a table of these rows: id, label, prediction, nll, a probability for each class."""
        labels = [classes[index] if index >= 0 else None for index in self.target_B.tolist()]
        table: dict[str, list[object]] = {
            "id": [ids[row] for row in self.row_B.tolist()],
            "label": list(labels),
            "predicted": [classes[index] for index in self.predicted_B.tolist()],
            "nll": self.nll_B.tolist(),
        }
        for index, name in enumerate(classes):
            table[f"p({name})"] = self.probability_BC[:, index].tolist()
        return table


def predict_batch(lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> Predictions:
    """Score a batch's classes; all prompts of an ensemble score each row in the same pass."""
    if bank.vote is None:
        scores = lm.score(bank, batch, batch.choices)
        probability_BC = scoring.scores_BC(scores).softmax(dim=1)
    else:
        repeated = batch.repeat_for_members(bank.num_prompts)
        members = lm.score(bank, repeated, repeated.choices)
        scores, probability_BC = combine_votes(members, bank.num_prompts, bank.vote, scoring)
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


@torch.no_grad()
def predict(lm: Backbone, bank: PromptBank, batches: Iterable[Batch], scoring: Scoring) -> Predictions:
    """Score batches in any order; the rows of the result are in the order of their table."""
    bank = bank.to(lm.device)
    parts = [predict_batch(lm, bank, batch.to(lm.device), scoring) for batch in batches]
    joined = {f.name: torch.cat([getattr(part, f.name).cpu() for part in parts]) for f in fields(Predictions)}
    order = joined["row_B"].argsort()
    return Predictions(**{name: tensor[order] for name, tensor in joined.items()})
