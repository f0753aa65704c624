"""TF-IDF with logistic regression: the cheap baseline that a soft prompt must beat to earn its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression


class TfidfLogisticRegression:
    """Word n-grams up to `ngram_max`, L2-regularised with inverse strength `c`."""

    def __init__(self, *, ngram_max: int, c: float, balanced: bool) -> None:
        self.vectorizer = TfidfVectorizer(ngram_range=(1, ngram_max), sublinear_tf=True)
        self.classifier = LogisticRegression(
            C=c, class_weight="balanced" if balanced else None, max_iter=1000
        )

    def fit(self, texts: list[str], targets: list[int]) -> None:
        """Learn from labelled texts."""
        self.classifier.fit(self.vectorizer.fit_transform(texts), targets)

    def probabilities(self, texts: list[str]) -> NDArray[np.float64]:
        """Class probabilities [rows, classes], in the order of the targets' numbers."""
        probability: NDArray[np.float64] = self.classifier.predict_proba(self.vectorizer.transform(texts))
        return probability

    @property
    def num_parameters(self) -> int:
        """Weights and intercepts learnt."""
        return int(self.classifier.coef_.size + self.classifier.intercept_.size)
