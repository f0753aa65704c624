"""The scores of a cell: mean, deviation and interval of each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from softcue.report.evidence import PROPORTIONS, Evidence, sample
from softcue.report.model import CellScore, Interval, Run
from softcue.report.pairs import interval_of
from softcue.statistics.estimates import estimate_mean, wilson
from softcue.statistics.outcomes import Indices


def cell_scores(
    evidence: Mapping[str, Evidence], runs: Sequence[Run], places: Indices
) -> dict[str, CellScore]:
    """One cell's score by each metric that some run at its places has."""
    found = {}
    for name, of_metric in evidence.items():
        at = places[~np.isnan(of_metric.score_R[places])]
        if len(at):
            found[name] = _score(of_metric, runs, at)
    return found


def _score(evidence: Evidence, runs: Sequence[Run], at: Indices) -> CellScore:
    of_cell = sample(evidence, runs, at)
    rows = [runs[place].rows for place in at]
    known = [count for count in rows if count is not None]
    estimate = estimate_mean(
        of_cell.score_P,
        of_cell.covariance_PP,
        num_rows=min(known, default=None),
        factors_FP=of_cell.factors_FP,
    )
    interval = interval_of(estimate, len(at))
    name = evidence.metric.name
    if len(at) == 1 and known and name in PROPORTIONS:
        low, high = wilson(float(of_cell.score_P[0]), known[0])
        interval = Interval(low=low, high=high, sources="binomial")
    least, most = evidence.metric.least, evidence.metric.most
    # Others' scores may be percentages.
    if interval is not None and least <= estimate.value <= most:
        interval = replace(interval, low=max(interval.low, least), high=min(interval.high, most))
    return CellScore(
        metric=name,
        values=tuple(float(value) for value in of_cell.score_P),
        mean=estimate.value,
        std=float(np.std(of_cell.score_P, ddof=1)) if len(at) > 1 else None,
        interval=interval,
    )
