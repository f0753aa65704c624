"""Baselines without a language model against closed forms and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from softcue.baselines.plurality import Plurality
from softcue.baselines.tfidf import TfidfLinearSVM

TEXTS = ["good day", "bad day", "so so", "very good", "bad bad", "so good", "good so", "worse"]


def test_plurality_gives_every_row_the_shares_of_the_training_rows() -> None:
    classifier = Plurality()
    classifier.fit(["a", "b", "c", "d"], [0, 2, 2, 1])
    assert classifier.probabilities(["x", "y"]).tolist() == [[0.25, 0.25, 0.5]] * 2
    assert classifier.num_parameters == 3


@pytest.mark.parametrize("targets", [[1, 0, 0, 1, 0, 1, 1, 0], [0, 1, 2, 0, 1, 0, 0, 2]])
def test_the_svms_classes_are_scikit_learns_and_its_margins_its_log_odds(targets: list[int]) -> None:
    ours = TfidfLinearSVM(ngram_max=2, c=1.0, balanced=True)
    ours.fit(TEXTS, targets)
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS)
    theirs = LinearSVC(C=1.0, class_weight="balanced", random_state=0).fit(vectors, targets)
    probability_BC = ours.probabilities(TEXTS)
    assert probability_BC.argmax(axis=1).tolist() == theirs.predict(vectors).tolist()
    assert probability_BC.sum(axis=1) == pytest.approx(1)
    log_odds = np.log(probability_BC[:, 1:] / probability_BC[:, :1])
    margins = theirs.decision_function(vectors)
    expected = margins[:, None] if margins.ndim == 1 else margins[:, 1:] - margins[:, :1]
    assert log_odds == pytest.approx(expected)
    assert ours.num_parameters == theirs.coef_.size + theirs.intercept_.size
