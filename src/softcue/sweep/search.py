"""A search by Optuna, which proposes and prunes trials; the study on disk survives its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from softcue.cli import say
from softcue.errors import ConfigError, SoftcueError
from softcue.runs.metrics import Metric, part_and_metric
from softcue.sweep.runner import Runner
from softcue.sweep.space import Interval, Options, parse_space, split_space
from softcue.sweep.state import JobState
from softcue.sweep.summary import mean_score
from softcue.sweep.table import print_table
from softcue.tables.table import Column, Table, number
from softcue.training.pruning import STUDY

ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def run_search(
    runner: Runner,
    *,
    params: Mapping[str, str],
    arguments: Sequence[str],
    num_trials: int,
    num_at_once: int,
    metric: str,
    sampler: Callable[..., optuna.samplers.BaseSampler],
    seed: int,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    """Run trials until `num_trials` of the study have ended, first those that an earlier command began.

    Raises:
        ConfigError: there is no space to search, a dimension is invalid, or the metric is unknown.
        SoftcueError: a trial failed, or is interrupted at every attempt.
    """
    several, fixed = split_space(arguments)
    space = {key: distribution(of) for key, of in parse_space({**params, **several}).items()}
    if not space:
        raise ConfigError(
            "there is nothing to search: give a setting several values, as "
            "'prompt.learning_rate=tag(log, interval(0.001,1))'."
        )
    part, declared = part_and_metric(metric)
    if runner.dry:
        say(f"would search {num_trials} trials over {', '.join(space)}, by {metric}")
        return optuna.create_study()
    journal = runner.root / "study.journal"
    study = open_study(journal, metric=declared, pruner=pruner)
    # A different seed at every start: the same one would propose the first trials again.
    study.sampler = sampler(seed=seed + len(study.get_trials(deepcopy=False)))
    while (missing := num_trials - len(study.get_trials(deepcopy=False, states=ENDED))) > 0:
        # A trial whose process died is still running in the study: resume it.
        waiting = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))[:missing]
        batch: Sequence[FrozenTrial | Trial] = waiting or [
            study.ask(space) for _ in range(min(num_at_once, missing))
        ]
        jobs = runner.run(
            [[*fixed, *settings_of(trial), *reporting(trial, journal, metric)] for trial in batch],
            labels=[" ".join([f"trial {trial.number}:", *settings_of(trial)]) for trial in batch],
        )
        for trial, job in zip(batch, jobs, strict=True):
            tell(study, trial.number, job, mean_score([job], part, declared))
        if not any(job.has_ended for job in jobs):
            log = jobs[0].runs[0].folder.log_path
            raise SoftcueError(f"trial {batch[0].number} is interrupted at every attempt; see {log}")
    print_table(study_table(study, title=metric, metric=declared))
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    if failed:
        raise SoftcueError(
            f"{len(failed)} of {num_trials} trials failed, the first being trial {failed[0].number}."
        )
    return study


def open_study(journal: Path, *, metric: Metric, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """The study in a journal, created if there is none, in the direction in which the metric is better."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=STUDY,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="maximize" if metric.higher_is_better else "minimize",
        pruner=pruner,
        load_if_exists=True,
    )


def distribution(dimension: Interval | Options) -> BaseDistribution:
    """A dimension as Optuna's distribution."""
    if isinstance(dimension, Interval):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution(dimension.values)


def settings_of(trial: FrozenTrial | Trial) -> list[str]:
    """A trial's values as overrides."""
    return [f"{key}={value}" for key, value in trial.params.items()]


def reporting(trial: FrozenTrial | Trial, journal: Path, metric: str) -> list[str]:
    """The overrides by which a trial's run reports to the study."""
    return [f"search.journal={journal}", f"search.trial={trial.number}", f"search.metric={metric}"]


def tell(study: optuna.Study, trial: int, job: JobState, score: float | None) -> None:
    """Record a trial's result in the study; an interrupted one stays, to be resumed at the next start."""
    if score is not None:
        study.tell(trial, score, skip_if_finished=True)  # another process may have been first
    elif job.state == "complete":
        names = sorted(
            {f"{part}/{name}" for r in job.records for part in r.metrics for name in r.metrics[part]}
        )
        raise ConfigError(
            f"{job.first_run_id} lacks the metric of the search; choose one of {', '.join(names)}."
        )
    elif job.has_ended:
        state = TrialState.PRUNED if job.state == "pruned" else TrialState.FAIL
        study.tell(trial, state=state, skip_if_finished=True)


def study_table(study: optuna.Study, *, title: str, metric: Metric) -> Table[FrozenTrial]:
    """Every trial, the best marked."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = study.best_trial.number if complete else None
    columns: list[Column[FrozenTrial]] = [
        number("trial", lambda trial: trial.number),
        Column("settings", lambda trial: " ".join(settings_of(trial))),
        Column("state", lambda trial: trial.state.name.lower()),
        number("score", lambda trial: trial.value, metric.text),
        Column("", lambda trial: "best" if trial.number == best else ""),
    ]
    return Table(title=f"search by {title}", columns=columns, rows=study.get_trials(deepcopy=False))
