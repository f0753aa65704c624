"""Tests of two methods, and what many of them are worth together. scipy does the exact ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from softcue.statistics.outcomes import (
    CountScore,
    Floats,
    Outcomes,
    Weights,
    counts_of_pairs,
    summed,
)

NUM_PERMUTATIONS = 2000


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in the order given."""
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in adjusted]


def sign_flip_p(difference_P: Floats) -> float:
    """The two-sided p-value of paired differences under exchanged signs; exact for up to 13 pairs.

    With P pairs it is 2 / 2^P at least, so that 5 seeds alone never reach .05.
    """
    from scipy import stats  # takes a second to import, which most comparisons do without

    found = stats.permutation_test(
        (difference_P,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value of McNemar's test, from the rows that only one of two runs has right."""
    discordant = only_first + only_second
    # Twice the smaller tail, as the distribution is symmetric.
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), discordant, 0.5)))


def swap_masks(num_rows: int, *, count: int = NUM_PERMUTATIONS, seed: int) -> Weights:
    """For each of N rows and K permutations, 1 if two methods exchange their predictions, else 0."""
    return np.random.default_rng(seed).integers(0, 2, size=(num_rows, count)).astype(np.float32)


def row_permutation_p(
    pairs: Sequence[tuple[Outcomes, Outcomes]], score: CountScore, swapped_NK: Weights
) -> float:
    """The two-sided p-value of the mean difference of paired runs, if rows exchange their predictions.

    Both runs of a pair have the same rows, and a row is exchanged in all pairs at once, since one row's
    predictions by several runs of a method are not independent.
    """
    permuted_K = np.zeros(swapped_NK.shape[1])
    observed = 0.0
    for first, second in pairs:
        codes, column_2B = np.unique(
            first.num_classes * np.stack([first.target_B] * 2)
            + np.stack([first.predicted_B, second.predicted_B]),
            return_inverse=True,
        )
        column_2B = column_2B.reshape(2, -1)
        differs_B = first.predicted_B != second.predicted_B
        swapped_DK = swapped_NK[first.row_B[differs_B]]
        gained_UK, lost_UK = (summed(column_2B[of][differs_B], swapped_DK, size=len(codes)) for of in (1, 0))
        counts_2U1 = [np.bincount(of, minlength=len(codes)).astype(float)[:, None] for of in column_2B]
        scores = [
            score(counts_of_pairs(codes, count_UK, num_classes=first.num_classes))
            for count_UK in (
                *counts_2U1,
                counts_2U1[0] + gained_UK - lost_UK,
                counts_2U1[1] - gained_UK + lost_UK,
            )
        ]
        observed += float(scores[0][0] - scores[1][0])
        permuted_K += scores[2] - scores[3]
    # Float sums of equal counts may differ in the last digit.
    extreme = int((np.abs(permuted_K) >= abs(observed) - 1e-9).sum())
    return (1 + extreme) / (1 + len(permuted_K))


def probability_of_improvement(first_PK: Floats, second_QK: Floats, *, higher_is_better: bool) -> float:
    """The probability that a run of the first is better than one of the second (Agarwal et al. 2021).

    The share of all pairs of runs, ties half, on average over K resamples of the rows.
    """
    sign = 1 if higher_is_better else -1
    ahead_PQK = np.sign(sign * (first_PK[:, None, :] - second_QK[None, :, :]))
    return float((1 + np.nanmean(ahead_PQK)) / 2)
