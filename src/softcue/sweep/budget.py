"""The same number of trials for every method, judged on validation folds alone; then the best once more."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from softcue.errors import ConfigError
from softcue.sweep.jobs import Job
from softcue.sweep.runner import Runner
from softcue.sweep.space import as_overrides, parse_space, points
from softcue.sweep.table import jobs_table, show


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every method is given.

    `spaces` names each method's dimensions; a trial is scored by the mean of `metric` over `folds`, and the
    best is trained again under each of `refits`: overrides, several of one job with spaces between.
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
    """One point of a method's space, with the mean of its folds; None until all are complete."""

    method: str
    overrides: tuple[str, ...]
    score: float | None


def run_budget(runner: Runner, budget: Budget, arguments: Sequence[str]) -> list[Job]:
    """Search, then refit; one table of what was chosen and what it scored on rows no choice has seen.

    Raises:
        ConfigError: no method to search.
        SoftcueError: jobs that are not complete in the end.
    """
    if not budget.spaces:
        raise ConfigError("hydra.sweeper.spaces names no method; give it as sweep=equal_budget does.")
    trials = [
        (method, (f"prompt={method}", *as_overrides(point)))
        for method, texts in budget.spaces.items()
        for point in points(
            parse_space(texts), count=budget.num_trials, sampler=budget.sampler, seed=budget.seed
        )
    ]
    jobs = runner.run(
        [[*overrides, *shlex.split(fold), *arguments] for _, overrides in trials for fold in budget.folds]
    )
    per_trial = len(budget.folds)
    scored = [
        Trial(
            method=method,
            overrides=overrides,
            score=mean_score(jobs[at * per_trial : (at + 1) * per_trial], budget.metric),
        )
        for at, (method, overrides) in enumerate(trials)
    ]
    if runner.dry:
        refits = len(budget.spaces) * len(budget.refits)
        show(f"then {refits} more jobs: each method's best again, as {len(budget.refits)} refits")
        return jobs
    best = {method: best_trial(scored, method) for method in budget.spaces}
    show(trials_table(scored, best, metric=budget.metric))
    refitted = runner.run(
        [
            [*trial.overrides, *shlex.split(refit), *arguments]
            for trial in best.values()
            if trial is not None
            for refit in budget.refits
        ]
    )
    show(jobs_table(refitted, root=runner.root))
    show(refits_table(refitted, best, num_refits=len(budget.refits)))
    runner.expect_complete([*jobs, *refitted])
    return [*jobs, *refitted]


def best_trial(trials: Sequence[Trial], method: str) -> Trial | None:
    """A method's best; of equals the first. None if no trial of it is complete."""
    scored = [trial for trial in trials if trial.method == method and trial.score is not None]
    return max(scored, key=lambda trial: trial.score or 0.0, default=None)


def mean_score(jobs: Sequence[Job], metric: str) -> float | None:
    """The mean over the folds of one trial; None if one is missing."""
    part, _, name = metric.partition("/")
    values = [record.metrics.get(part, {}).get(name) for job in jobs for record in job.records()]
    found = [value for value in values if value is not None]
    return fmean(found) if len(found) == len(jobs) and all(job.is_complete for job in jobs) else None


def trials_table(trials: Sequence[Trial], best: Mapping[str, Trial | None], *, metric: str) -> Table:
    """All trials, each method's best marked."""
    table = _table(f"{len(trials)} trials, {metric}, mean over folds", ("method", "trial", "score", ""))
    for trial in trials:
        score = "–" if trial.score is None else f"{trial.score:.3f}"
        mark = "best" if best[trial.method] is trial else ""
        table.add_row(*map(Text, (trial.method, " ".join(trial.overrides[1:]), score, mark)))
    return table


def refits_table(jobs: Sequence[Job], best: Mapping[str, Trial | None], *, num_refits: int) -> Table:
    """What each method's best settings score on test rows."""
    table = _table(
        f"best settings, {num_refits} refits", ("method", "settings", "validation", "test macro-F1")
    )
    chosen = [trial for trial in best.values() if trial is not None]
    for at, trial in enumerate(chosen):
        records = [r for job in jobs[at * num_refits : (at + 1) * num_refits] for r in job.records()]
        values = [value for r in records if (value := r.metrics.get("test", {}).get("macro_f1")) is not None]
        spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
        score = f"{fmean(values):.3f}{spread} (n={len(values)})" if values else "–"
        words = (trial.method, " ".join(trial.overrides[1:]), f"{trial.score:.3f}", score)
        table.add_row(*map(Text, words))
    return table


def _table(title: str, header: Sequence[str]) -> Table:
    table = Table(title=Text(title), box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in header:
        table.add_column(heading)
    return table
