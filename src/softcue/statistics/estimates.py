"""The mean of runs, or of differences between runs, with its uncertainty from both runs and rows.

Two sources make a mean over P runs uncertain: other seeds, folds or labels (runs), and other test rows. Let
s be the standard deviation of the runs' scores, and c the mean covariance that resampled rows give to two
different runs. Then s² / P + c estimates the variance of the mean without bias, whether all runs share
their rows (c is the rows' variance, which s lacks), none do (c is 0, and s contains it), or some
do.

Each part of the variance has degrees of freedom of its own. The critical value is the mean of the parts'
t-quantiles, weighted by the parts (Cochran 1964, Biometrics 20, 191-195). Satterthwaite's single number of
degrees of freedom is wrong where the estimate from few runs is small by chance: with two runs, or two draws
of labels, up to 45 of 1,000 comparisons of equals have p < .001. With this rule at most 4 have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np
from scipy import special

from softcue.statistics.outcomes import Floats, Indices

LEVEL = 0.95
LEAST_P = 1e-12
"""The smallest p-value that is returned."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a variance, with the degrees of freedom of its estimate."""

    variance: float
    df: float


def critical_value(parts: Sequence[Part], tail: float) -> float:
    """How many standard errors have this probability above them: the parts' weighted t-quantiles."""
    total = sum(part.variance for part in parts)
    if not total:
        return 0.0
    return sum(part.variance * t_quantile(1 - tail, part.df) for part in parts) / total


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and the parts of its variance: one for each thing that runs repeat, and one of the rows.

    A source that the data say nothing about is None: runs for a single run, rows without predictions.
    """

    value: float
    run_parts: tuple[Part, ...] | None
    row_part: Part | None

    @property
    def parts(self) -> list[Part]:
        """All parts that are known."""
        return [*(self.run_parts or ()), *([] if self.row_part is None else [self.row_part])]

    @property
    def runs(self) -> float | None:
        """The variance that runs cause."""
        return None if self.run_parts is None else sum(part.variance for part in self.run_parts)

    @property
    def rows(self) -> float | None:
        """The variance that rows cause."""
        return None if self.row_part is None else self.row_part.variance

    @property
    def variance(self) -> float | None:
        """The variance of the value from all sources that are known; None if none is."""
        return sum(part.variance for part in self.parts) if self.parts else None

    @property
    def standard_error(self) -> float | None:
        """The square root of the variance."""
        return None if self.variance is None else math.sqrt(self.variance)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """The interval of the value; None if nothing is known of its variance."""
        if self.standard_error is None:
            return None
        half = critical_value(self.parts, (1 - level) / 2) * self.standard_error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """The two-sided p-value of the value being 0; None if nothing is known of its variance.

        It is the p at which 0 is an end of the interval of level 1 - p.
        """
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.value == 0 else 0.0
        t = abs(self.value) / self.standard_error
        low, high = math.log(LEAST_P / 2), math.log(0.5)
        # To 12 digits of the logarithm.
        for _ in range(45):
            middle = (low + high) / 2
            if critical_value(self.parts, math.exp(middle)) > t:
                low = middle
            else:
                high = middle
        return 2 * math.exp(high)


def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t, of the normal distribution for infinite degrees of freedom."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


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
    rows = None if covariance_PP is None else shared_variance(covariance_PP, factors_FP)
    return Estimate(
        value=float(np.mean(score_P)),
        run_parts=between_runs(score_P, factors_FP),
        row_part=None if rows is None else Part(variance=rows, df=_rows_df(num_rows)),
    )


def between_runs(score_P: Floats, factors_FP: Indices | None = None) -> tuple[Part, ...] | None:
    """The parts of the variance of a mean over P runs that the runs cause; None for a single run.

    One part, s² / P, if some factor parts all runs. If factors cross, as 3 seeds on each of 5 folds do, the
    runs are not independent: each factor's part is then the variance of the mean of its levels' means. Their
    sum is too high by what no factor explains. A factor of two levels, such as two draws of labels with five
    seeds each, says almost nothing about other levels: it has no part if another factor has more levels, and
    the estimate is then for these two levels.
    """
    count = len(score_P)
    if count < 2:
        return None
    if factors_FP is None or count in _num_levels(factors_FP):
        return (Part(variance=float(np.var(score_P, ddof=1)) / count, df=count - 1),)
    parts = []
    for factor in _repeated(factors_FP):
        _, level_P = np.unique(factors_FP[factor], return_inverse=True)
        means = np.bincount(level_P, weights=score_P) / np.bincount(level_P)
        parts.append(Part(variance=float(np.var(means, ddof=1)) / len(means), df=len(means) - 1))
    return tuple(parts)


def fixed_factors(factors_FP: Indices) -> list[int]:
    """The factors of two levels that have no part in `between_runs`, by number."""
    counts, repeated = _num_levels(factors_FP), _repeated(factors_FP)
    if factors_FP.shape[1] in counts:
        return []
    return [factor for factor, count in enumerate(counts) if count == 2 and factor not in repeated]


def _repeated(factors_FP: Indices) -> list[int]:
    """The factors with a part of their own: those of three levels or more; if there are none, of two."""
    counts = _num_levels(factors_FP)
    return [factor for factor, count in enumerate(counts) if count >= min(3, max([2, *counts]))]


def _num_levels(factors_FP: Indices) -> list[int]:
    return [len(np.unique(levels_P)) for levels_P in factors_FP]


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
    rows = None
    if first.covariance_PP is not None and second.covariance_PP is not None:
        own = shared_variance(first.covariance_PP, first.factors_FP)
        others = shared_variance(second.covariance_PP, second.factors_FP)
        rows = max(0.0, own + others - 2 * (0.0 if cross_PQ is None else float(np.mean(cross_PQ))))
    return Estimate(
        value=float(np.mean(first.score_P) - np.mean(second.score_P)),
        run_parts=_runs_of_difference(first, second),
        row_part=None if rows is None else Part(variance=rows, df=_rows_df(num_rows)),
    )


def _runs_of_difference(first: Sample, second: Sample) -> tuple[Part, ...] | None:
    """The parts of both, those of the same factor added as Welch (1947) adds two variances."""
    of_each = []
    for one, other in ((first, second), (second, first)):
        parts = between_runs(one.score_P, one.factors_FP)
        if parts is None and not one.fixed:
            count, of_other = len(other.score_P), between_runs(other.score_P, other.factors_FP)
            parts = of_other and tuple(replace(part, variance=part.variance * count) for part in of_other)
        of_each.append(parts or ())
    return tuple(_added(*pair) for pair in zip_longest(*of_each)) or None


def _added(first: Part | None, second: Part | None) -> Part:
    known = [part for part in (first, second) if part is not None]
    variance = sum(part.variance for part in known)
    spread = sum(part.variance**2 / part.df for part in known)
    return Part(variance=variance, df=variance**2 / spread if spread else 1.0)


def _rows_df(num_rows: int | None) -> float:
    return max(1, num_rows - 1) if num_rows else math.inf


def wilson(score: float, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a proportion over `count` rows (Wilson 1927)."""
    z2 = float(special.ndtri(0.5 + level / 2)) ** 2
    centre = (score + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (score * (1 - score) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return centre - half, centre + half
