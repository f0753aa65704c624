"""Intervals and p-values against scipy, statsmodels and closed forms; their coverage against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from softcue.statistics.estimates import (
    Estimate,
    Sample,
    between_runs,
    estimate_difference,
    estimate_mean,
    shared_variance,
    wilson,
)
from tests.statistics.simulation import Scenario, coverage

SCORES = np.array([0.71, 0.75, 0.68, 0.79, 0.72])
OTHERS = np.array([0.66, 0.70, 0.61, 0.69])


def test_without_rows_it_is_the_t_interval_and_the_t_test_of_the_mean() -> None:
    found = estimate_mean(SCORES, None, num_rows=None)
    expected = stats.ttest_1samp(SCORES, 0)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


def test_unpaired_runs_without_rows_are_welchs_test() -> None:
    first, second = (Sample(score_P=of, covariance_PP=None) for of in (SCORES, OTHERS))
    found = estimate_difference(first, second, None, num_rows=None)
    expected = stats.ttest_ind(SCORES, OTHERS, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_single_run_has_the_variance_of_its_rows_alone() -> None:
    found = estimate_mean(np.array([0.8]), np.array([[0.0004]]), num_rows=400)
    assert found.interval() == pytest.approx(stats.t.interval(0.95, 399, loc=0.8, scale=0.02))


def test_runs_on_the_same_rows_add_the_variance_of_the_rows() -> None:
    covariance = np.full((5, 5), 0.0003) + np.diag(np.full(5, 0.0002))
    found = estimate_mean(SCORES, covariance, num_rows=400)
    assert found.variance == pytest.approx(SCORES.var(ddof=1) / 5 + 0.0003)


def test_runs_on_rows_of_their_own_already_contain_them() -> None:
    found = estimate_mean(SCORES, np.diag(np.full(5, 0.0005)), num_rows=400)
    assert found.variance == pytest.approx(SCORES.var(ddof=1) / 5)


def test_the_degrees_of_freedom_are_satterthwaites() -> None:
    found = Estimate(value=1.0, runs=0.02, runs_df=4, rows=0.03, rows_df=399)
    assert found.df == pytest.approx(0.05**2 / (0.02**2 / 4 + 0.03**2 / 399))


def test_crossed_seeds_and_folds_are_not_taken_for_independent_runs() -> None:
    """Two folds that lie apart: six runs say no more of folds than two do."""
    folds, seeds = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    scores = np.where(folds == 0, 0.6, 0.8)
    variance, df = between_runs(scores, np.array([seeds, folds]))
    assert variance == pytest.approx(np.var([0.6, 0.8], ddof=1) / 2)
    assert df == 1.0
    independent, _ = between_runs(scores)
    assert independent is not None
    assert variance is not None
    assert variance > 3 * independent


def test_only_runs_that_differ_in_every_factor_show_what_rows_share() -> None:
    folds, seeds = np.repeat([0, 1], 2), np.tile([0, 1], 2)
    # Rows belong to folds: the same fold's runs share them, others do not.
    covariance = np.where(folds[:, None] == folds[None, :], 0.0004, 0.0)
    assert shared_variance(covariance, np.array([seeds, folds])) == 0.0
    assert shared_variance(covariance) > 0.0


def test_a_single_run_is_taken_to_vary_as_the_others_unless_it_trains_nothing() -> None:
    several = Sample(score_P=SCORES, covariance_PP=None)
    variance = SCORES.var(ddof=1)
    for fixed, expected in ((False, variance / 5 + variance), (True, variance / 5)):
        single = Sample(score_P=np.array([0.5]), covariance_PP=None, fixed=fixed)
        assert estimate_difference(several, single, None, num_rows=None).variance == pytest.approx(expected)


def test_no_variance_and_no_difference_is_no_evidence() -> None:
    assert estimate_mean(np.zeros(5), None, num_rows=None).p == 1.0
    assert estimate_mean(np.array([0.1]), None, num_rows=None).p is None


@pytest.mark.parametrize(("right", "count"), [(0, 20), (452, 1319), (20, 20)])
def test_wilsons_interval_is_that_of_statsmodels(right: int, count: int) -> None:
    expected = proportion_confint(right, count, method="wilson")
    assert wilson(right / count, count) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(Scenario(runs=5, rows=200, between=0.03, shared_rows=True), marks=pytest.mark.slow),
        pytest.param(Scenario(runs=5, rows=200, between=0.0, shared_rows=True), marks=pytest.mark.slow),
        Scenario(runs=5, rows=100, between=0.03, shared_rows=False),
    ],
    ids=str,
)
def test_95_percent_intervals_cover_the_truth_about_95_times_in_100(scenario: Scenario) -> None:
    """experiments/statistics has the long version; with 250 simulations the standard error is 1.4 %."""
    found = coverage(scenario, simulations=250, seed=0)
    assert 0.91 < found.ours < 0.99
