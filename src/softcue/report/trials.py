"""What a method's trials are worth: the expected best of k, chosen by validation rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np

from softcue.report.model import BestOfK, Cell
from softcue.runs.metrics import Metric
from softcue.statistics.trials import expected_best


def best_of_k(cells: Sequence[Cell], metric: Metric) -> Iterable[BestOfK]:
    """For each method with several settings that were scored on validation rows."""
    by_method: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        found = cell.scores.get(metric.name)
        validation = _mean_on_validation(cell, metric)
        if found is not None and validation is not None:
            by_method.setdefault(cell.method, []).append((validation, found.mean))
    for method, scores in by_method.items():
        if len(scores) > 1:
            validation_T, shown_T = np.array(scores).T
            best_K, chosen_K = expected_best(validation_T, shown_T, higher_is_better=metric.higher_is_better)
            yield BestOfK(
                task=cells[0].task,
                method=method,
                metric=metric.name,
                trials=len(scores),
                validation=tuple(map(float, best_K)),
                shown=tuple(map(float, chosen_K)),
            )


def _mean_on_validation(cell: Cell, metric: Metric) -> float | None:
    values = [run.record.metric("validation", metric.name) for run in cell.runs if run.record]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(cell.runs) else None
