"""What is known of one metric over all runs of a task: scores, and how rows make them vary together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from softcue.report.model import Run, TaskRows
from softcue.runs.metrics import Metric
from softcue.statistics.estimates import Sample
from softcue.statistics.outcomes import Floats, Indices, Outcomes, count_score_named, score_named
from softcue.statistics.resampling import resample

BUDGETS = {True: 1e9, False: 1e8}
"""Rows of runs times resamples, for scores of counts and for those that sort each run's rows."""

PROPORTIONS = ("accuracy",)
"""Metrics that are a share of rows, so that a score and a number of rows give an interval."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """One metric over the R runs of a task; NaN where it is unknown.

    `covariance_RR` is that over resampled rows; `score_RK` the scores on K resamples, the plain score where
    there are no predictions.
    """

    metric: Metric
    score_R: Floats
    score_RK: Floats
    covariance_RR: Floats


def gather(
    runs: Sequence[Run], cell_R: Indices, rows: TaskRows | None, metric: Metric, *, seed: int = 0
) -> Evidence:
    """Resample the rows of all runs that have predictions; `cell_R` is each run's cell."""
    score_R = np.array([run.scores.get(metric.name, np.nan) for run in runs])
    covariance_RR = np.full((len(runs), len(runs)), np.nan)
    score_RK = score_R[:, None]
    at = np.array(
        [place for place, run in enumerate(runs) if run.predictions and metric.name in run.scores],
        dtype=np.int64,
    )
    score = score_named(metric.name, rows.classes) if rows is not None else None
    if rows is not None and score is not None and len(at):
        counted = count_score_named(metric.name, rows.classes) is not None
        found = resample(
            [outcomes(runs[place], rows) for place in at],
            score,
            num_rows=len(rows.ids),
            seed=seed,
            budget=BUDGETS[counted],
        )
        covariance_RR[np.ix_(at, at)] = found.covariance_RR
        score_RK = np.repeat(score_RK, found.score_RK.shape[1], axis=1)
        score_RK[at] = found.score_RK
    if metric.name in PROPORTIONS:
        _add_binomial(covariance_RR, runs, score_R, cell_R)
    return Evidence(metric=metric, score_R=score_R, score_RK=score_RK, covariance_RR=covariance_RR)


def outcomes(run: Run, rows: TaskRows) -> Outcomes:
    """A run's predictions beside the truth; the run must have some."""
    assert run.predictions is not None
    return Outcomes(
        row_B=run.predictions.row_B,
        target_B=rows.target_N[run.predictions.row_B],
        predicted_B=run.predictions.predicted_B,
        probability_BC=run.predictions.probability_BC,
    )


def sample(evidence: Evidence, runs: Sequence[Run], at: Indices) -> Sample:
    """The scores of the runs at some places."""
    covariance_PP = evidence.covariance_RR[np.ix_(at, at)]
    return Sample(
        score_P=evidence.score_R[at],
        covariance_PP=None if np.isnan(covariance_PP).any() else covariance_PP,
        factors_FP=factors([runs[place] for place in at]),
        fixed=all(runs[place].cost.trainable_parameters == 0 for place in at),
    )


def factors(runs: Sequence[Run]) -> Indices | None:
    """The level of each run in each thing that is repeated; None if that is not known."""
    names = dict.fromkeys(name for run in runs for name in run.replicate)
    levels = [[run.replicate.get(name, "") for run in runs] for name in names]
    return np.array([np.unique(of, return_inverse=True)[1] for of in levels]) if levels else None


def _add_binomial(covariance_RR: Floats, runs: Sequence[Run], score_R: Floats, cell_R: Indices) -> None:
    """Fill in what a share of rows says of itself, for runs without predictions.

    Runs of one cell are taken to share their rows wholly, and those of others not at all: neither makes an
    interval too short.
    """
    bare_R = np.array([run.predictions is None and run.rows is not None for run in runs])
    for cell in np.unique(cell_R[bare_R]):
        at = np.flatnonzero(bare_R & (cell_R == cell))
        share = float(np.mean(score_R[at]))
        least = min(rows for place in at.tolist() if (rows := runs[place].rows) is not None)
        covariance_RR[at, :] = covariance_RR[:, at] = 0.0
        covariance_RR[np.ix_(at, at)] = share * (1 - share) / least
