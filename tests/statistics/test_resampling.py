"""The bootstrap's covariance against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcue.statistics.outcomes import Outcomes, score_named
from softcue.statistics.resampling import Resampled, resample
from tests.statistics.conftest import MakeOutcomes


def resampled(runs: list[Outcomes], *, num_rows: int, metric: str = "accuracy") -> Resampled:
    score = score_named(metric, ["0", "1"])
    assert score is not None
    return resample(runs, score, num_rows=num_rows, seed=0)


def test_the_covariance_of_accuracies_is_that_of_their_rows_divided_by_their_number(
    make_outcomes: MakeOutcomes,
) -> None:
    runs = [make_outcomes(rows=300, classes=2, seed=seed) for seed in (1, 2)]
    right_RB = np.array([run.target_B == run.predicted_B for run in runs], dtype=float)
    expected = np.cov(right_RB, ddof=0) / 300
    found = resampled(runs, num_rows=300).covariance_RR
    # 2000 resamples: the standard error of a variance is 3.2 %.
    assert found.diagonal() == pytest.approx(expected.diagonal(), rel=0.12)
    assert found[0, 1] == pytest.approx(expected[0, 1], abs=0.12 * expected[0, 0])


def test_the_same_predictions_vary_together_and_other_rows_not_at_all(make_outcomes: MakeOutcomes) -> None:
    run = make_outcomes(rows=100, classes=2, seed=1)
    elsewhere = replace(run, row_B=np.arange(100, 200))
    found = resampled([run, run, elsewhere], num_rows=200).covariance_RR
    assert found[0, 1] == pytest.approx(found[0, 0])
    assert found[0, 2] == 0.0


def test_scores_are_those_of_the_rows_as_they_are(make_outcomes: MakeOutcomes) -> None:
    run = make_outcomes(rows=50, classes=2, seed=1)
    assert resampled([run], num_rows=50).score_R[0] == (run.target_B == run.predicted_B).mean()


def test_a_resample_with_one_class_has_no_auroc_and_is_left_out() -> None:
    probability_B = np.array([0.1, 0.4, 0.3, 0.2, 0.9])
    run = Outcomes(
        row_B=np.arange(5),
        target_B=np.array([0, 0, 0, 0, 1]),
        predicted_B=np.array([0, 0, 0, 0, 1]),
        probability_BC=np.stack([1 - probability_B, probability_B], axis=1),
    )
    found = resampled([run], num_rows=5, metric="auroc")
    assert 0.2 < np.isnan(found.score_RK).mean() < 0.5  # (4/5)^5 = .33
    assert found.covariance_RR[0, 0] == 0.0
