"""From label log-likelihoods to class scores."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from softcue.backbone.scoring import TargetScores


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The score of a class: its label's log-likelihood, summed over tokens or, `per_token`, averaged."""

    per_token: bool

    def scores_BC(self, scores: TargetScores) -> Tensor:
        """One score for each class, in nats; their softmax is the class probability."""
        return scores.mean_per_token_BC() if self.per_token else scores.log_likelihood_BC
