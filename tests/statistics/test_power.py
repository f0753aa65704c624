"""Power against statsmodels and against simulated comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from softcue.statistics.estimates import estimate_mean
from softcue.statistics.power import MOST_ROWS, WANTED_POWER, Design


def design(**of: float) -> Design:
    whole = {"difference": 0.05, "between_runs": 0.0, "shared": 0.0, "own": 0.0, "runs": 5, "rows": 400} | of
    return Design(
        difference=whole["difference"],
        between_runs=whole["between_runs"],
        shared=whole["shared"],
        own=whole["own"],
        runs=int(whole["runs"]),
        rows=int(whole["rows"]),
    )


@pytest.mark.parametrize(("runs", "deviation"), [(3, 0.03), (5, 0.05), (20, 0.1)])
def test_with_runs_alone_it_is_the_power_of_the_t_test(runs: int, deviation: float) -> None:
    found = design(between_runs=deviation**2, runs=runs).power
    expected = TTestPower().power(0.05 / deviation, nobs=runs, alpha=0.05, alternative="two-sided")
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_runs_needed_are_those_of_statsmodels() -> None:
    exact = TTestPower().solve_power(0.05 / 0.08, power=WANTED_POWER, alpha=0.05, alternative="two-sided")
    assert design(between_runs=0.08**2).runs_needed() == int(np.ceil(exact))


def test_the_rows_needed_are_those_at_which_the_power_is_reached() -> None:
    small = design(between_runs=0.0001, shared=0.0012)
    needed = small.rows_needed()
    assert needed is not None
    assert small.power < WANTED_POWER <= small.with_size(rows=needed).power
    # It is given to two digits.
    assert small.with_size(rows=round(needed * 0.9)).power < WANTED_POWER


def test_rows_do_not_help_where_runs_differ_too_much() -> None:
    loud = design(difference=0.01, between_runs=0.01, shared=0.0004)
    assert loud.rows_needed() is None
    assert loud.with_size(rows=MOST_ROWS).power < WANTED_POWER


def test_variance_of_rows_shrinks_with_their_number_and_that_between_runs_does_not() -> None:
    larger = design(between_runs=0.02, shared=0.01, own=0.004).with_size(rows=1600)
    assert (larger.between_runs, larger.shared, larger.own) == pytest.approx((0.02, 0.0025, 0.001))


@pytest.mark.parametrize("rows", [100, 400])
def test_the_power_is_how_often_simulated_comparisons_find_the_difference(rows: int) -> None:
    """Differences of five runs are drawn with the stated variances, and tested as the report tests them."""
    of = design(between_runs=0.03**2, shared=0.02**2, own=0.02**2, difference=0.06).with_size(rows=rows)
    generator, simulations = np.random.default_rng(0), 2000
    shared_S1 = generator.normal(0, np.sqrt(of.shared), size=(simulations, 1))
    own_SP = generator.normal(0, np.sqrt(of.between_runs + of.own), size=(simulations, of.runs))
    covariance_PP = np.full((of.runs, of.runs), of.shared) + np.diag(np.full(of.runs, of.own))
    p_values = [
        estimate_mean(score_P, covariance_PP, num_rows=rows).p or 0.0
        for score_P in of.difference + shared_S1 + own_SP
    ]
    found = float(np.mean(np.array(p_values) < 0.05))
    # Four standard errors of a share of 2000 simulations.
    assert of.power == pytest.approx(found, abs=4 * np.sqrt(0.25 / simulations))


def test_a_single_run_has_the_power_of_its_rows() -> None:
    """The normal power function of a difference with a known standard error."""
    found = design(own=0.02**2, runs=1, rows=10**6, difference=0.05).power
    z = stats.norm.ppf(0.975)
    assert found == pytest.approx(stats.norm.sf(z - 2.5) + stats.norm.cdf(-z - 2.5), abs=1e-4)
