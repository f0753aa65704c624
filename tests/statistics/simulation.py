"""How often the 95 % interval of a mean over runs holds the true mean, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from softcue.statistics.estimates import estimate_mean
from softcue.statistics.outcomes import Indices, Outcomes, score_named
from softcue.statistics.resampling import resample

TRUTH = 0.75
DIFFICULTY = 0.1
"""Rows are right with probability TRUTH plus or minus this, whatever the run."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`runs` runs on `rows` test rows each; `between` is the standard deviation of a run's true accuracy.

    With `draws`, each of so many draws of labels moves the accuracy of its share of the runs as well, by as
    large a standard deviation.
    """

    runs: int
    rows: int
    between: float
    shared_rows: bool
    draws: int | None = None

    def __str__(self) -> str:
        rows = "the same" if self.shared_rows else "their own"
        draws = "" if self.draws is None else f" of {self.draws} draws"
        return f"{self.runs} runs{draws} on {rows} {self.rows} rows, between {self.between}"

    @property
    def factors_FP(self) -> Indices | None:
        """The seed and the draw of each run."""
        if self.draws is None:
            return None
        number_P = np.arange(self.runs)
        seeds = self.runs // self.draws
        return np.array([number_P % seeds, number_P // seeds])


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The share of intervals that hold the truth, ours and the t-interval over runs; our mean width."""

    ours: float
    runs_alone: float
    width: float


def coverage(scenario: Scenario, *, simulations: int, seed: int, budget: float = 1.0) -> Coverage:
    """Simulate comparisons; `budget` is that of `resample`, by default the fewest resamples."""
    generator = np.random.default_rng(seed)
    held, held_by_runs, widths = 0, 0, []
    for _ in range(simulations):
        runs = _simulated(scenario, generator)
        score = score_named("accuracy", ["0", "1"])
        assert score is not None
        num_rows = scenario.rows * (1 if scenario.shared_rows else scenario.runs)
        found = resample(runs, score, num_rows=num_rows, seed=int(generator.integers(2**31)), budget=budget)
        interval = estimate_mean(
            found.score_R, found.covariance_RR, num_rows=num_rows, factors_FP=scenario.factors_FP
        ).interval()
        assert interval is not None
        held += interval[0] <= TRUTH <= interval[1]
        widths.append(interval[1] - interval[0])
        alone = stats.ttest_1samp(found.score_R, TRUTH).confidence_interval(0.95)
        held_by_runs += bool(alone.low <= TRUTH <= alone.high)
    return Coverage(
        ours=held / simulations, runs_alone=held_by_runs / simulations, width=float(np.mean(widths))
    )


def _simulated(scenario: Scenario, generator: np.random.Generator) -> list[Outcomes]:
    """Runs whose rows are right at random; rows that all runs share are hard or easy for all of them."""
    shared_B = generator.choice([-DIFFICULTY, DIFFICULTY], size=scenario.rows)
    runs = []
    draw_P = np.zeros(scenario.runs)
    if scenario.factors_FP is not None:
        draw_P = generator.normal(0, scenario.between, scenario.runs)[scenario.factors_FP[1]]
    for number in range(scenario.runs):
        own_B = generator.choice([-DIFFICULTY, DIFFICULTY], size=scenario.rows)
        difficulty_B = shared_B if scenario.shared_rows else own_B
        accuracy = TRUTH + generator.normal(0, scenario.between) + draw_P[number]
        right_B = generator.random(scenario.rows) < accuracy + difficulty_B
        target_B = generator.integers(0, 2, size=scenario.rows)
        predicted_B = np.where(right_B, target_B, 1 - target_B)
        start = 0 if scenario.shared_rows else number * scenario.rows
        runs.append(
            Outcomes(
                row_B=np.arange(start, start + scenario.rows),
                target_B=target_B,
                predicted_B=predicted_B,
                probability_BC=np.eye(2)[predicted_B],
            )
        )
    return runs
