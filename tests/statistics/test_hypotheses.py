"""Tests of two methods against statsmodels, and against the same tests written out over all permutations."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import f1_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from softcue.statistics.hypotheses import (
    holm,
    mcnemar_p,
    probability_of_improvement,
    row_permutation_p,
    sign_flip_p,
    swap_masks,
)
from softcue.statistics.outcomes import Outcomes, Weights, count_score_named
from tests.statistics.conftest import MakeOutcomes


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.9, 0.5], [0.02], [0.01, 0.01, 0.6, 1.0]])
def test_holms_adjustment_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_no_p_values_are_adjusted_to_none() -> None:
    assert holm([]) == []


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 9), (0, 5), (12, 12), (1, 0), (0, 0)])
def test_mcnemars_exact_test_is_that_of_statsmodels(only_first: int, only_second: int) -> None:
    expected = 1.0
    if only_first + only_second:
        expected = float(mcnemar([[7, only_first], [only_second, 4]], exact=True).pvalue)
    assert mcnemar_p(only_first, only_second) == pytest.approx(expected)


def test_sign_flips_are_all_two_to_the_number_of_pairs() -> None:
    differences = np.array([0.03, 0.05, -0.01, 0.04, 0.02])
    means = [abs(np.mean(np.array(signs) * differences)) for signs in product([1, -1], repeat=5)]
    expected = np.mean(np.array(means) >= abs(differences.mean()) - 1e-12)
    assert sign_flip_p(differences) == pytest.approx(expected)


def test_five_seeds_alone_never_reach_five_percent() -> None:
    assert sign_flip_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5])) == pytest.approx(2 / 2**5)


def every_mask(rows: int) -> Weights:
    """All ways of exchanging rows, one a column."""
    return np.array(list(product([0, 1], repeat=rows)), dtype=np.float32).T


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_exchanging_rows_is_the_permutation_test_of_its_definition(
    make_outcomes: MakeOutcomes, metric: str
) -> None:
    """All 2^7 exchanges, each scored by scikit-learn on the exchanged predictions of both seeds."""
    pairs = [
        (make_outcomes(rows=7, classes=3, seed=seed), make_outcomes(rows=7, classes=3, seed=seed + 9))
        for seed in (1, 2)
    ]

    def score(target_B: np.ndarray, predicted_B: np.ndarray) -> float:
        if metric == "accuracy":
            return float((target_B == predicted_B).mean())
        return float(f1_score(target_B, predicted_B, average="macro"))

    def difference(swapped_B: np.ndarray) -> float:
        return sum(
            score(first.target_B, np.where(swapped_B, second.predicted_B, first.predicted_B))
            - score(first.target_B, np.where(swapped_B, first.predicted_B, second.predicted_B))
            for first, second in pairs
        )

    masks = every_mask(7)
    permuted = np.array([difference(mask.astype(bool)) for mask in masks.T])
    extreme = int((np.abs(permuted) >= abs(difference(np.zeros(7, dtype=bool))) - 1e-9).sum())
    of_counts = count_score_named(metric, ["0", "1", "2"])
    assert of_counts is not None
    # The test counts the predictions as they are among the permutations.
    assert row_permutation_p(pairs, of_counts, masks) == pytest.approx((1 + extreme) / (1 + 2**7))


def test_the_same_predictions_are_never_told_apart_by_exchanging_rows(make_outcomes: MakeOutcomes) -> None:
    run = make_outcomes(rows=40, classes=2, seed=1)
    of_counts = count_score_named("accuracy", ["0", "1"])
    assert of_counts is not None
    assert row_permutation_p([(run, run)], of_counts, swap_masks(40, seed=1)) == 1.0


def test_a_run_that_is_right_where_the_other_is_wrong_is_told_apart(make_outcomes: MakeOutcomes) -> None:
    run: Outcomes = make_outcomes(rows=40, classes=2, seed=1)
    right, wrong = (replace(run, predicted_B=of) for of in (run.target_B, 1 - run.target_B))
    of_counts = count_score_named("accuracy", ["0", "1"])
    assert of_counts is not None
    masks = swap_masks(40, seed=1)
    assert row_permutation_p([(right, wrong)], of_counts, masks) == pytest.approx(1 / (1 + masks.shape[1]))


def test_the_probability_of_improvement_counts_pairs_of_runs_and_ties_half() -> None:
    """Mann and Whitney's U over the number of pairs (Agarwal et al. 2021)."""
    first, second = np.array([[0.7], [0.8], [0.6]]), np.array([[0.7], [0.5]])
    # Ahead: .7 > .5, .8 > .7, .8 > .5, .6 > .5; a tie: .7 and .7; behind: .6 < .7.
    assert probability_of_improvement(first, second, higher_is_better=True) == pytest.approx(4.5 / 6)
    assert probability_of_improvement(first, second, higher_is_better=False) == pytest.approx(1.5 / 6)
