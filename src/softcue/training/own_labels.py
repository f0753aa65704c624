"""A loss on the labels inside a prompt itself, beside that of the batch's rows."""

from __future__ import annotations

from softcue.backbone.base import Backbone
from softcue.contracts import OwnLabels, PromptBank
from softcue.training.objectives import BatchLoss


def with_own_labels(
    lm: Backbone, bank: PromptBank, own: OwnLabels | None, loss: BatchLoss, *, num_rows: int
) -> BatchLoss:
    """The mean over a batch's units and, for each of its rows, the tokens of the prompt's own labels.

    Every row has the prompt in front of it, so its labels count once a row; they are run once a step.
    """
    if own is None:
        return loss
    batch = own.batch.to(lm.device)
    scores = lm.score(bank, batch, batch.target_choices)
    nll_B, num_tokens = -scores.log_likelihood_BC[:, 0], scores.num_tokens_BC.sum()
    weight = loss.weight + num_rows * num_tokens
    total = loss.mean * loss.weight + num_rows * (own.weight_B.to(lm.device) * nll_B).sum()
    return BatchLoss(mean=total / weight, weight=weight)
