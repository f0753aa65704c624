"""Training losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.contracts import Batch, PromptBank
from softcue.evaluation.scoring import Scoring


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """The loss of a batch, and how many units (label tokens, or rows) it is the mean of."""

    mean: Tensor
    weight: Tensor


class Objective(ABC):
    """A training loss."""

    @abstractmethod
    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        """The loss of a labelled batch, in nats."""


class ScoresObjective(Objective):
    """A training loss in two halves: what the model says of each row, and what that costs."""

    @abstractmethod
    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        """The label scores that the loss needs: one pass through the frozen model."""

    @abstractmethod
    def of(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        """The loss of labelled rows, in nats."""

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        return self.of(self.scores(lm, bank, batch), batch.target_B, scoring)


class LanguageModelLoss(ScoresObjective):
    """Mean negative log-likelihood of the right label's tokens: loss falls on nothing else."""

    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        return lm.score(bank, batch, batch.target_choices)

    def of(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        num_tokens = scores.num_tokens_BC.sum()
        return BatchLoss(mean=-scores.log_likelihood_BC.sum() / num_tokens, weight=num_tokens)


class ChoiceLoss(ScoresObjective):
    """Cross-entropy of the right class among all classes, from their labels' scores."""

    def scores(self, lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
        return lm.score(bank, batch, batch.choices)

    def of(self, scores: TargetScores, target_B: Tensor, scoring: Scoring) -> BatchLoss:
        scores_BC = scoring.scores_BC(scores)
        return BatchLoss(mean=cross_entropy(scores_BC, target_B), weight=scores_BC.new_tensor(len(target_B)))
