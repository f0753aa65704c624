"""A linear probe of the frozen model: logistic regression on its final hidden states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softcue.baselines.base import StateClassifier


class Probe(StateClassifier):
    """Standardises each number of the state; L2-regularised with inverse strength `c`.

    `balanced` weights classes by the inverse of their frequency.
    """

    def __init__(self, *, c: float, balanced: bool) -> None:
        self.classifier = LogisticRegression(
            C=c, class_weight="balanced" if balanced else None, max_iter=1000
        )
        self.pipeline = make_pipeline(StandardScaler(), self.classifier)

    def fit(self, states_BD: NDArray[np.float32], targets: Sequence[int]) -> None:
        self.pipeline.fit(states_BD, targets)

    def probabilities(self, states_BD: NDArray[np.float32]) -> NDArray[np.float64]:
        probability_BC: NDArray[np.float64] = self.pipeline.predict_proba(states_BD)
        return probability_BC

    @property
    def num_parameters(self) -> int:
        return int(self.classifier.coef_.size + self.classifier.intercept_.size)
