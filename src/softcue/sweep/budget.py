"""The same number of trials for each method, scored on validation folds alone; then each one's best again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from softcue.cli import say
from softcue.errors import ConfigError
from softcue.runs.metrics import Metric, Statistic, part_and_metric, statistic
from softcue.sweep.runner import Runner
from softcue.sweep.space import as_overrides, parse_space, points
from softcue.sweep.state import JobState
from softcue.sweep.summary import mean_score
from softcue.sweep.table import jobs_table, print_table
from softcue.tables.table import Column, Table, mean_and_deviation, number


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every method is given.

    `spaces` names each method's dimensions; a trial's score is the mean of `metric` over `folds`, and the
    best trial is trained again under each of `refits`. Folds and refits are overrides, several of one job
    separated by spaces.
    """

    spaces: Mapping[str, Mapping[str, str]]
    num_trials: int
    sampler: str
    seed: int
    metric: str
    folds: Sequence[str]
    refits: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a method's space and its mean score over the folds; None until all are complete."""

    method: str
    overrides: tuple[str, ...]
    score: float | None

    @property
    def settings(self) -> str:
        """The point alone, without the choice of the method."""
        return " ".join(self.overrides[1:])


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A method's best trial and the score of its refits on test rows."""

    trial: Trial
    test: Statistic | None


def run_budget(runner: Runner, budget: Budget, arguments: Sequence[str]) -> list[JobState]:
    """Search, refit, and print what was chosen and its score on rows that no choice has seen.

    Raises:
        ConfigError: there are no methods, folds or refits, or the metric is unknown.
        SoftcueError: a job is not complete in the end.
    """
    for name in ("spaces", "folds", "refits"):
        if not getattr(budget, name):
            raise ConfigError(f"hydra.sweeper.{name} is empty; give it as sweep=equal_budget does.")
    part, metric = part_and_metric(budget.metric)
    points_of_methods = _points(budget)
    jobs = runner.run(
        [[*point, *shlex.split(fold), *arguments] for _, point in points_of_methods for fold in budget.folds]
    )
    if runner.dry:
        count = len(budget.spaces) * len(budget.refits)
        say(f"then {count} more jobs: each method's best trial, refitted {len(budget.refits)} times")
        return jobs
    trials = [
        Trial(method=method, overrides=point, score=mean_score(folds, part, metric))
        for (method, point), folds in zip(points_of_methods, _chunks(jobs, len(budget.folds)), strict=True)
    ]
    best = [trial for method in budget.spaces if (trial := best_trial(trials, method, metric)) is not None]
    print_table(trials_table(trials, best, title=budget.metric, metric=metric))
    refitted = runner.run(
        [[*trial.overrides, *shlex.split(refit), *arguments] for trial in best for refit in budget.refits]
    )
    print_table(jobs_table(refitted, root=runner.root))
    print_table(refits_table(best, _chunks(refitted, len(budget.refits)), metric=metric))
    runner.expect_complete([*jobs, *refitted])
    return [*jobs, *refitted]


def _points(budget: Budget) -> list[tuple[str, tuple[str, ...]]]:
    """Every trial's method and overrides."""
    return [
        (method, (f"prompt={method}", *as_overrides(point)))
        for method, texts in budget.spaces.items()
        for point in points(
            parse_space(texts), count=budget.num_trials, sampler=budget.sampler, seed=budget.seed
        )
    ]


def _chunks(jobs: Sequence[JobState], size: int) -> list[Sequence[JobState]]:
    return [jobs[at : at + size] for at in range(0, len(jobs), size)]


def best_trial(trials: Sequence[Trial], method: str, metric: Metric) -> Trial | None:
    """A method's best trial, the first of equals; None if no trial of it is complete."""
    scored = [trial for trial in trials if trial.method == method and trial.score is not None]
    return min(scored, key=lambda trial: metric.rank(trial.score), default=None)


def trials_table(
    trials: Sequence[Trial], best: Sequence[Trial], *, title: str, metric: Metric
) -> Table[Trial]:
    """All trials, each method's best marked."""
    columns: list[Column[Trial]] = [
        Column("method", lambda trial: trial.method),
        Column("trial", lambda trial: trial.settings),
        number("score", lambda trial: trial.score, metric.text),
        Column("", lambda trial: "best" if trial in best else ""),
    ]
    return Table(title=f"{len(trials)} trials, {title}, mean over folds", columns=columns, rows=trials)


def refits_table(
    best: Sequence[Trial], refits: Sequence[Sequence[JobState]], *, metric: Metric
) -> Table[Refit]:
    """The score of each method's best settings on test rows."""
    columns: list[Column[Refit]] = [
        Column("method", lambda refit: refit.trial.method),
        Column("settings", lambda refit: refit.trial.settings),
        number("validation", lambda refit: refit.trial.score, metric.text),
        number(f"test {metric.title}", lambda refit: refit.test, mean_and_deviation(metric.text)),
    ]
    rows = [
        Refit(trial=trial, test=statistic(r.metric("test", metric.name) for job in jobs for r in job.records))
        for trial, jobs in zip(best, refits, strict=True)
    ]
    return Table(title="each method's best settings, refitted", columns=columns, rows=rows)
