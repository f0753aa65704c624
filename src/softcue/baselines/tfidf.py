"""TF-IDF with logistic regression: a cheap baseline for soft prompts to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from softcue.baselines.base import TextClassifier


class TfidfLogisticRegression(TextClassifier):
    """Word n-grams up to `ngram_max`, L2-regularised with inverse strength `c`.

    `balanced` weights classes by the inverse of their frequency.
    """

    def __init__(self, *, ngram_max: int, c: float, balanced: bool) -> None:
        self.vectorizer = TfidfVectorizer(ngram_range=(1, ngram_max), sublinear_tf=True)
        self.classifier = LogisticRegression(
            C=c, class_weight="balanced" if balanced else None, max_iter=1000
        )

    def fit(self, texts: Sequence[str], targets: Sequence[int]) -> None:
        self.classifier.fit(self.vectorizer.fit_transform(texts), targets)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        probability_BC: NDArray[np.float64] = self.classifier.predict_proba(self.vectorizer.transform(texts))
        return probability_BC

    @property
    def num_parameters(self) -> int:
        return int(self.classifier.coef_.size + self.classifier.intercept_.size)
