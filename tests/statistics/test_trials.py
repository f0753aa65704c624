"""The expected best of k trials against every choice of k."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from softcue.statistics.trials import chance_of_being_best, expected_best

VALIDATION = np.array([0.61, 0.74, 0.70, 0.55, 0.68])
SHOWN = np.array([0.60, 0.66, 0.71, 0.50, 0.69])


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_it_is_the_mean_over_all_sets_of_k_trials(higher_is_better: bool) -> None:
    best, chosen = expected_best(VALIDATION, SHOWN, higher_is_better=higher_is_better)
    pick = max if higher_is_better else min
    for k in range(1, 6):
        picked = [pick(of, key=VALIDATION.__getitem__) for of in combinations(range(5), k)]
        assert best[k - 1] == pytest.approx(np.mean(VALIDATION[picked]))
        assert chosen[k - 1] == pytest.approx(np.mean(SHOWN[picked]))


def test_one_trial_is_worth_the_mean_and_all_of_them_the_one_that_validation_chooses() -> None:
    best, chosen = expected_best(VALIDATION, SHOWN, higher_is_better=True)
    assert (best[0], chosen[0]) == pytest.approx((VALIDATION.mean(), SHOWN.mean()))
    assert (best[-1], chosen[-1]) == pytest.approx((0.74, 0.66))


@pytest.mark.parametrize("count", [1, 5, 200])
def test_some_trial_is_the_best(count: int) -> None:
    assert chance_of_being_best(count).sum(axis=1) == pytest.approx(np.ones(count))
