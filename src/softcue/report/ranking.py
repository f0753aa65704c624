"""Methods over several tasks: their ranks, if there are tasks enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softcue.report.model import Ranks, TaskComparison
from softcue.runs.metrics import Metric
from softcue.statistics.ranks import LEAST_TASKS, indistinct_groups, rank_statistics


def rank_methods(tasks: Sequence[TaskComparison], metric: Metric) -> Ranks | None:
    """Rank the methods that have the metric on every task; None below five tasks or two methods.

    A method with several settings counts with its best on each task.
    """
    best = [_best(task, metric) for task in tasks]
    methods = [name for name in best[0] if all(name in of_task for of_task in best)] if best else []
    if len(tasks) < LEAST_TASKS or len(methods) < 2:
        return None
    score_TM = np.array([[of_task[name] for name in methods] for of_task in best])
    found = rank_statistics(score_TM, higher_is_better=metric.higher_is_better)
    return Ranks(
        metric=metric.name,
        tasks=tuple(task.task for task in tasks),
        mean_rank=dict(zip(methods, map(float, found.mean_rank_M), strict=True)),
        p=found.p,
        critical_difference=found.critical_difference,
        groups=tuple(
            tuple(methods[at] for at in group)
            for group in indistinct_groups(found.mean_rank_M, found.critical_difference)
        ),
    )


def _best(task: TaskComparison, metric: Metric) -> dict[str, float]:
    """Each method's best mean; the cells are sorted."""
    best: dict[str, float] = {}
    for cell in task.cells:
        if metric.name in cell.scores:
            best.setdefault(cell.method, cell.scores[metric.name].mean)
    return best
