"""How many test rows, or runs, would show a difference, if it is as large as it was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy import special

from softcue.statistics.estimates import Part, critical_value

WANTED_POWER = 0.8
ALPHA = 0.05
MOST_ROWS = 1_000_000
MOST_RUNS = 1_000


@dataclass(frozen=True, kw_only=True)
class Design:
    """A difference between two methods and what makes it vary, measured with `runs` runs on `rows` rows.

    Variances of one run's difference: `between_runs` on endless rows; `shared`, that the rows give to all
    runs alike; `own`, that they give to each run by itself. The last two are those with `rows` rows.
    """

    difference: float
    between_runs: float
    shared: float
    own: float
    runs: int
    rows: int

    def with_size(self, *, rows: int | None = None, runs: int | None = None) -> Design:
        """The same methods measured with another number of rows or runs."""
        rows, runs = rows or self.rows, runs or self.runs
        scale = self.rows / rows
        return replace(self, shared=self.shared * scale, own=self.own * scale, rows=rows, runs=runs)

    @property
    def power(self) -> float:
        """The probability that the two-sided t-test of `estimates` finds the difference.

        With a single run there is no variance between runs to be seen, and none is tested.
        """
        of_rows = Part(variance=self.shared, df=float(max(1, self.rows - 1)))
        if self.runs == 1:
            parts = [replace(of_rows, variance=self.own + self.shared)]
        else:
            of_runs = (self.between_runs + self.own) / self.runs
            parts = [Part(variance=of_runs, df=self.runs - 1), of_rows]
        variance = sum(part.variance for part in parts)
        if variance <= 0:
            return 1.0 if self.difference else ALPHA
        # Satterthwaite's degrees of freedom: how much the estimate of the whole variance varies.
        df = variance**2 / sum(part.variance**2 / part.df for part in parts)
        critical = critical_value(parts, ALPHA / 2)
        return t_power(abs(self.difference) / math.sqrt(variance), df, critical)

    def rows_needed(self) -> int | None:
        """The least number of rows with the wanted power, to two digits; None if there is none."""
        return _least(lambda rows: self.with_size(rows=rows).power, low=self.rows, high=MOST_ROWS)

    def runs_needed(self) -> int | None:
        """The least number of runs with the wanted power; None if there is none."""
        return _least(lambda runs: self.with_size(runs=runs).power, low=max(2, self.runs), high=MOST_RUNS)


def t_power(noncentrality: float, df: float, critical: float) -> float:
    """The probability of a t beyond `critical` on either side, for a mean `noncentrality` errors from 0."""
    df = min(df, 1e6)
    if noncentrality > 30:
        return 1.0
    below = float(special.nctdtr(df, noncentrality, critical))
    far = float(special.nctdtr(df, noncentrality, -critical))
    return 1 - below + (far if math.isfinite(far) else 0.0)


def _least(power: Callable[[int], float], *, low: int, high: int) -> int | None:
    """The least number between two with the wanted power, which grows with it; large ones to two digits."""
    if power(high) < WANTED_POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if power(middle) >= WANTED_POWER:
            high = middle
        else:
            low = middle + 1
    step: int = 10 ** max(0, len(str(low)) - 2)
    return math.ceil(low / step) * step
