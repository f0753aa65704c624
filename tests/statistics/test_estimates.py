"""Intervals and p-values against scipy, statsmodels and closed forms; their coverage against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from softcue.statistics.estimates import (
    Estimate,
    Part,
    Sample,
    between_runs,
    estimate_difference,
    estimate_mean,
    fixed_factors,
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


def test_the_critical_value_is_cochrans() -> None:
    runs, rows = Part(variance=0.02, df=1), Part(variance=0.03, df=399)
    found = Estimate(value=1.0, run_parts=(runs,), row_part=rows)
    weighted = 0.4 * stats.t.ppf(0.975, 1) + 0.6 * stats.t.ppf(0.975, 399)
    assert found.interval() == pytest.approx((1 - weighted * 0.05**0.5, 1 + weighted * 0.05**0.5))


@pytest.mark.parametrize("value", [0.0, 0.01, 0.3, 2.0])
def test_at_its_p_the_interval_ends_at_zero(value: float) -> None:
    runs, rows = Part(variance=0.02, df=1), Part(variance=0.03, df=399)
    found = Estimate(value=value, run_parts=(runs,), row_part=rows)
    assert found.p is not None
    interval = found.interval(1 - found.p)
    assert interval is not None
    assert interval[0] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("share_of_rows", [0.05, 0.1, 0.25, 0.5])
def test_two_runs_seldom_call_nothing_significant(share_of_rows: float) -> None:
    """With Satterthwaite's degrees of freedom, up to 4.5 % of null differences have p < .001."""
    generator, count = np.random.default_rng(0), 4000
    shared = share_of_rows / (1 - share_of_rows) / 2
    score_SP = generator.normal(0, shared**0.5, (count, 1)) + generator.normal(0, 1, (count, 2))
    p_values = [
        estimate_mean(score_P, np.full((2, 2), shared), num_rows=400).p or 0.0 for score_P in score_SP
    ]
    assert np.mean(np.array(p_values) < 0.001) < 0.007
    assert np.mean(np.array(p_values) < 0.05) < 0.065


def test_crossed_seeds_and_folds_are_not_taken_for_independent_runs() -> None:
    """Three folds that lie apart: nine runs say no more of folds than three do."""
    folds, seeds = np.repeat([0, 1, 2], 3), np.tile([0, 1, 2], 3)
    scores = np.array([0.6, 0.7, 0.8])[folds]
    of_seeds, of_folds = between_runs(scores, np.array([seeds, folds])) or ()
    assert (of_seeds.df, of_folds.df) == (2, 2)
    assert of_seeds.variance == pytest.approx(0)
    assert of_folds.variance == pytest.approx(np.var([0.6, 0.7, 0.8], ddof=1) / 3)
    (independent,) = between_runs(scores) or ()
    assert of_folds.variance > 3 * independent.variance


def test_of_two_draws_beside_more_seeds_the_mean_is_of_these_two() -> None:
    draws, seeds = np.repeat([0, 1], 5), np.tile(np.arange(5), 2)
    scores = np.where(draws == 0, 0.6, 0.8) + np.concatenate([SCORES, SCORES])
    (of_seeds,) = between_runs(scores, np.array([seeds, draws])) or ()
    assert of_seeds.df == 4
    assert of_seeds.variance == pytest.approx(SCORES.var(ddof=1) / 5)
    assert fixed_factors(np.array([seeds, draws])) == [1]
    # Of two seeds on each of two draws nothing is left out, nor of two runs.
    assert len(between_runs(scores[:4], np.array([[0, 1, 0, 1], [0, 0, 1, 1]])) or ()) == 2
    assert fixed_factors(np.array([[0, 1, 0, 1], [0, 0, 1, 1]])) == []
    assert fixed_factors(np.array([[0, 1], [0, 0]])) == []


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
