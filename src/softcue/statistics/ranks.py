"""Methods over several tasks: mean ranks and their critical difference (Demšar 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from softcue.statistics.outcomes import Floats

LEAST_TASKS = 5
"""With fewer tasks, ranks show next to nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RankStatistics:
    """Mean ranks of M methods, 1 the best, the Friedman test's p-value, Nemenyi's critical difference."""

    mean_rank_M: Floats
    p: float
    critical_difference: float


def rank_statistics(score_TM: Floats, *, higher_is_better: bool, level: float = 0.95) -> RankStatistics:
    """Rank at least two methods on each task; ties share their mean rank."""
    from scipy import stats  # takes a second to import, which comparisons of few tasks do without

    num_tasks, num_methods = score_TM.shape
    rank_TM = stats.rankdata(-score_TM if higher_is_better else score_TM, axis=1)
    if num_methods > 2:
        p = float(stats.friedmanchisquare(*score_TM.T).pvalue)
    else:
        # Friedman's test needs three methods; for two it is the sign test.
        ahead = int((rank_TM[:, 0] < rank_TM[:, 1]).sum())
        decided = int((rank_TM[:, 0] != rank_TM[:, 1]).sum())
        p = float(stats.binomtest(ahead, decided).pvalue) if decided else 1.0
    quantile = float(stats.studentized_range.ppf(level, num_methods, np.inf)) / math.sqrt(2)
    return RankStatistics(
        mean_rank_M=rank_TM.mean(axis=0),
        p=p,
        critical_difference=quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_tasks)),
    )


def indistinct_groups(mean_rank_M: Floats, critical_difference: float) -> list[tuple[int, ...]]:
    """The largest groups of two or more methods, by index, whose ranks are no further apart than that."""
    order = np.argsort(mean_rank_M, kind="stable")
    groups: list[tuple[int, ...]] = []
    for at, first in enumerate(order):
        group = tuple(
            int(one) for one in order[at:] if mean_rank_M[one] - mean_rank_M[first] <= critical_difference
        )
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups
