"""TF-IDF with a linear classifier: cheap baselines for soft prompts to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from softcue.baselines.base import TextClassifier


class _Tfidf(TextClassifier):
    """A linear `classifier` of word n-grams up to `ngram_max`."""

    classifier: Any

    def __init__(self, *, ngram_max: int) -> None:
        self.vectorizer = TfidfVectorizer(ngram_range=(1, ngram_max), sublinear_tf=True)

    def fit(self, texts: Sequence[str], targets: Sequence[int]) -> None:
        self.classifier.fit(self.vectorizer.fit_transform(texts), targets)

    @property
    def num_parameters(self) -> int:
        return int(self.classifier.coef_.size + self.classifier.intercept_.size)


class TfidfLogisticRegression(_Tfidf):
    """L2-regularised with inverse strength `c`.

    `balanced` weights classes by the inverse of their frequency.
    """

    def __init__(self, *, ngram_max: int, c: float, balanced: bool) -> None:
        super().__init__(ngram_max=ngram_max)
        self.classifier = LogisticRegression(
            C=c, class_weight="balanced" if balanced else None, max_iter=1000
        )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        probability_BC: NDArray[np.float64] = self.classifier.predict_proba(self.vectorizer.transform(texts))
        return probability_BC


class TfidfLinearSVM(_Tfidf):
    """A linear support vector machine, regularised as the logistic regression.

    Its decision values stand in for log-odds: the classes are the machine's own, the probabilities are not
    calibrated.
    """

    def __init__(self, *, ngram_max: int, c: float, balanced: bool) -> None:
        super().__init__(ngram_max=ngram_max)
        self.classifier = LinearSVC(C=c, class_weight="balanced" if balanced else None, random_state=0)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        score: NDArray[np.float64] = self.classifier.decision_function(self.vectorizer.transform(texts))
        # With two classes there is one value, the margin of the second.
        score_BC = np.stack([np.zeros_like(score), score], axis=1) if score.ndim == 1 else score
        probability_BC: NDArray[np.float64] = softmax(score_BC, axis=1)
        return probability_BC
