"""The mean of runs, or of differences between runs, with its uncertainty from both runs and rows.

Two sources make a mean over P runs uncertain: other seeds, folds or labels (runs), and other test rows. Let
s be the standard deviation of the runs' scores, and c the mean covariance that resampled rows give to two
different runs. Then s² / P + c estimates the variance of the mean without bias, whether all runs share
their rows (c is the rows' variance, of which s knows nothing), none do (c is 0, and s contains it), or some
do. Its degrees of freedom are Satterthwaite's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from softcue.statistics.outcomes import Floats, Indices

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and its variance, split into sources, each with its degrees of freedom.

    A source that the data say nothing about is None: runs for a single run, rows without predictions.
    """

    value: float
    runs: float | None
    runs_df: float
    rows: float | None
    rows_df: float

    @property
    def variance(self) -> float | None:
        """The variance of the value from all sources that are known; None if none is."""
        known = [part for part in (self.runs, self.rows) if part is not None]
        return sum(known) if known else None

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom."""
        runs, rows = self.runs or 0.0, self.rows or 0.0
        spread = (runs**2 / self.runs_df if runs else 0.0) + (rows**2 / self.rows_df if rows else 0.0)
        return (runs + rows) ** 2 / spread if spread else math.inf

    @property
    def standard_error(self) -> float | None:
        """The square root of the variance."""
        return None if self.variance is None else math.sqrt(self.variance)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """The t-interval of the value; None if nothing is known of its variance."""
        if self.standard_error is None:
            return None
        half = t_quantile(0.5 + level / 2, self.df) * self.standard_error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """The two-sided p-value of the value being 0; None if nothing is known of its variance."""
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.value == 0 else 0.0
        return two_sided(abs(self.value) / self.standard_error, self.df)


def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t, of the normal distribution for infinite degrees of freedom."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def two_sided(t: float, df: float) -> float:
    """The probability of |T| being at least t."""
    return float(2 * (special.ndtr(-t) if math.isinf(df) else special.stdtr(df, -t)))


def estimate_mean(
    score_P: Floats,
    covariance_PP: Floats | None,
    *,
    num_rows: int | None,
    factors_FP: Indices | None = None,
) -> Estimate:
    """The mean of P scores whose covariance over resampled rows is known, or None.

    `factors_FP` has the level of each run in each factor that runs differ in, such as seed and fold; None
    if every run is independent of the others.
    """
    runs, runs_df = between_runs(score_P, factors_FP)
    rows = None if covariance_PP is None else shared_variance(covariance_PP, factors_FP)
    return Estimate(
        value=float(np.mean(score_P)), runs=runs, runs_df=runs_df, rows=rows, rows_df=_rows_df(num_rows)
    )


def between_runs(score_P: Floats, factors_FP: Indices | None = None) -> tuple[float | None, float]:
    """The variance of a mean over P runs that the runs cause, and its degrees of freedom.

    s² / P if some factor parts all runs. If factors cross, as 3 seeds on each of 5 folds do, the runs are not
    independent: it is then the sum over factors of the variance of the means of their levels, which is too
    high by what neither factor explains.
    """
    count = len(score_P)
    if count < 2:
        return None, 1.0
    if factors_FP is None or any(len(np.unique(levels_P)) == count for levels_P in factors_FP):
        return float(np.var(score_P, ddof=1)) / count, count - 1
    parts, spread = 0.0, 0.0
    for levels_P in factors_FP:
        _, level_P = np.unique(levels_P, return_inverse=True)
        means = np.bincount(level_P, weights=score_P) / np.bincount(level_P)
        if len(means) > 1:
            part = float(np.var(means, ddof=1)) / len(means)
            parts, spread = parts + part, spread + part**2 / (len(means) - 1)
    return parts, parts**2 / spread if spread else 1.0


def shared_variance(covariance_PP: Floats, factors_FP: Indices | None = None) -> float:
    """The mean covariance of two runs that differ in every factor, 0 at least; a single run's variance."""
    count = len(covariance_PP)
    if count == 1:
        return float(covariance_PP[0, 0])
    apart_PP = ~np.eye(count, dtype=bool)
    for levels_P in factors_FP if factors_FP is not None else ():
        if len(np.unique(levels_P)) > 1:
            apart_PP &= levels_P[:, None] != levels_P[None, :]
    return max(0.0, float(covariance_PP[apart_PP].mean())) if apart_PP.any() else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """The P scores of one method's runs; see `estimate_mean`.

    A `fixed` method trains nothing, so that another run of it would be the same.
    """

    score_P: Floats
    covariance_PP: Floats | None
    factors_FP: Indices | None = None
    fixed: bool = False


def estimate_difference(
    first: Sample, second: Sample, cross_PQ: Floats | None, *, num_rows: int | None
) -> Estimate:
    """The difference of two means over runs that are no pairs.

    `cross_PQ` is the covariance of the first's runs with the second's over resampled rows. A method with a
    single run is taken to vary as the other's runs do, unless it is fixed.
    """
    runs, runs_df = _runs_of_difference(first, second)
    rows = None
    if first.covariance_PP is not None and second.covariance_PP is not None:
        own = shared_variance(first.covariance_PP, first.factors_FP)
        others = shared_variance(second.covariance_PP, second.factors_FP)
        rows = max(0.0, own + others - 2 * (0.0 if cross_PQ is None else float(np.mean(cross_PQ))))
    return Estimate(
        value=float(np.mean(first.score_P) - np.mean(second.score_P)),
        runs=runs,
        runs_df=runs_df,
        rows=rows,
        rows_df=_rows_df(num_rows),
    )


def _runs_of_difference(first: Sample, second: Sample) -> tuple[float | None, float]:
    parts, spread = [], 0.0
    for one, other in ((first, second), (second, first)):
        variance, df = between_runs(one.score_P, one.factors_FP)
        if variance is None and not one.fixed:
            of_other, df = between_runs(other.score_P, other.factors_FP)
            variance = None if of_other is None else of_other * len(other.score_P)
        if variance is not None:
            parts.append(variance)
            spread += variance**2 / df
    return (sum(parts) if parts else None), (sum(parts) ** 2 / spread if spread else 1.0)


def _rows_df(num_rows: int | None) -> float:
    return max(1, num_rows - 1) if num_rows else math.inf


def wilson(score: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a proportion over `count` rows (Wilson 1927)."""
    z2 = float(special.ndtri(0.5 + level / 2)) ** 2
    centre = (score + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (score * (1 - score) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return centre - half, centre + half
