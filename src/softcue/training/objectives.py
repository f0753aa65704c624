"""Training losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.contracts import Batch, PromptBank
from softcue.evaluation.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The mean loss of a batch, and the number of units (label tokens, or rows) that it averages."""

    mean: Tensor
    weight: Tensor


class Objective(ABC):
    """A training loss."""

    needs_classes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        """The loss of a labelled batch, in nats."""

    def losses(
        self, lm: Backbone, banks: Sequence[PromptBank], batches: Sequence[Batch], scoring: Scoring
    ) -> list[BatchLoss]:
        """The loss of each batch under its own bank: by default with one pass through the model for each."""
        return [self(lm, bank, batch, scoring) for bank, batch in zip(banks, batches, strict=True)]


class ScoresObjective(Objective):
    """A training loss that is a function of label scores; several batches share one pass."""

    @abstractmethod
    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        """The label scores that the loss needs: one pass through the frozen model."""

    @abstractmethod
    def loss(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        """The loss of labelled rows, in nats."""

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        return self.loss(self.scores(lm, bank, batch), batch.target_B, scoring)

    def losses(
        self, lm: Backbone, banks: Sequence[PromptBank], batches: Sequence[Batch], scoring: Scoring
    ) -> list[BatchLoss]:
        pairs = [lm.for_rows(bank, batch) for bank, batch in zip(banks, batches, strict=True)]
        own_banks, own_batches = zip(*pairs, strict=True)
        scores = self.scores(lm, *concat(own_banks, own_batches)).split([len(batch) for batch in batches])
        return [self.loss(own, batch.target_B, scoring) for own, batch in zip(scores, batches, strict=True)]


class LanguageModelLoss(ScoresObjective):
    """Mean negative log-likelihood of the right label's tokens; no other token has a loss."""

    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        return lm.score(bank, batch, batch.target_choices)

    def loss(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        num_tokens = scores.num_tokens_BC.sum()
        return BatchLoss(mean=-scores.log_likelihood_BC.sum() / num_tokens, weight=num_tokens)


class ChoiceLoss(ScoresObjective):
    """Cross-entropy of the right class among all classes, from their labels' scores."""

    needs_classes = True

    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        return lm.score(bank, batch, batch.choices)

    def loss(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        scores_BC = scoring.scores_BC(scores)
        return BatchLoss(mean=cross_entropy(scores_BC, target_B), weight=scores_BC.new_tensor(len(target_B)))


class TFewLoss(ScoresObjective):
    """T-Few's loss: the mean over rows of three terms (Liu et al. 2022, arXiv 2205.05638, section 3.2).

    Negative log-likelihood per token of the right label; `unlikelihood` times the mean, over all tokens of
    the wrong labels, of -log(1 - probability); `length_normalised` times the cross-entropy of the right class
    among all, each scored by its label's log-likelihood per token. The authors' code averages tokens over the
    batch and adds .01 to 1 - probability; here each row counts the same, as in their equations.
    """

    needs_classes = True

    def __init__(self, *, unlikelihood: float, length_normalised: float) -> None:
        self.unlikelihood, self.length_normalised = unlikelihood, length_normalised

    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        return lm.score(bank, batch, batch.choices)

    def loss(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        assert scores.log_unlikelihood_BC is not None
        per_token_BC = scores.mean_per_token_BC()
        right_BC = one_hot(target_B, per_token_BC.shape[1]).bool()
        # A class that the row does not have is neither right nor wrong.
        wrong_BC = ~right_BC & per_token_BC.isfinite()
        likelihood_B = per_token_BC[right_BC]
        unlikelihood_B = (scores.log_unlikelihood_BC * wrong_BC).sum(1) / (
            scores.num_tokens_BC * wrong_BC
        ).sum(1)
        choice_B = per_token_BC.log_softmax(dim=1)[right_BC]
        loss_B = -likelihood_B - self.unlikelihood * unlikelihood_B - self.length_normalised * choice_B
        return BatchLoss(mean=loss_B.mean(), weight=loss_B.new_tensor(len(target_B)))


def concat(banks: Sequence[PromptBank], batches: Sequence[Batch]) -> tuple[PromptBank, Batch]:
    """One bank and one batch of several pairs; each row uses the prompt that it used in its own pair."""
    first, moved = 0, []
    for bank, batch in zip(banks, batches, strict=True):
        # In a bank of one prompt all rows use it, whatever their batch says.
        own_B = batch.prompt_B if bank.num_prompts > 1 else torch.zeros_like(batch.prompt_B)
        moved.append(replace(batch, prompt_B=own_B + first))
        first += bank.num_prompts
    return PromptBank.concat(banks), Batch.concat(moved)
