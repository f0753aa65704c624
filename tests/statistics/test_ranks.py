"""Ranks over tasks against Demšar's own example and table, and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from softcue.statistics.ranks import indistinct_groups, rank_statistics

CRITICAL_VALUES = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Of the two-tailed Nemenyi test at .05, by the number of methods: Demšar 2006, table 5 (a)."""


@pytest.mark.parametrize("methods", CRITICAL_VALUES)
def test_the_critical_difference_is_demsars(methods: int) -> None:
    scores = np.random.default_rng(0).random((14, methods))
    found = rank_statistics(scores, higher_is_better=True).critical_difference
    expected = CRITICAL_VALUES[methods] * np.sqrt(methods * (methods + 1) / (6 * 14))
    assert found == pytest.approx(expected, rel=3e-4)


def test_ranks_are_means_over_tasks_with_ties_shared_and_friedmans_test_is_scipys() -> None:
    scores = np.array([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5], [0.7, 0.8, 0.4], [0.9, 0.5, 0.6], [0.8, 0.7, 0.6]])
    found = rank_statistics(scores, higher_is_better=True)
    assert found.mean_rank_M == pytest.approx([(1 + 1.5 + 2 + 1 + 1) / 5, (2 + 1.5 + 1 + 3 + 2) / 5, 14 / 5])
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)
    of_losses = rank_statistics(-scores, higher_is_better=False)
    assert of_losses.mean_rank_M == pytest.approx(found.mean_rank_M)


def test_two_methods_are_compared_by_the_sign_test() -> None:
    scores = np.array([[0.9, 0.8]] * 5 + [[0.5, 0.5]])
    assert rank_statistics(scores, higher_is_better=True).p == pytest.approx(2 / 2**5)


def test_groups_are_the_largest_sets_within_the_critical_difference() -> None:
    ranks = np.array([1.2, 3.9, 2.0, 2.9])
    assert indistinct_groups(ranks, 1.0) == [(0, 2), (2, 3), (3, 1)]
    assert indistinct_groups(ranks, 1.8) == [(0, 2, 3), (3, 1)]
    assert indistinct_groups(ranks, 0.5) == []
