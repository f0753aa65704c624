"""A search by Optuna: it proposes trials, prunes those that lag behind, and outlives its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from softcue.errors import ConfigError, SoftcueError
from softcue.sweep.budget import mean_score
from softcue.sweep.jobs import Job
from softcue.sweep.runner import Runner
from softcue.sweep.space import Interval, Options, parse_space, split_space
from softcue.sweep.table import show
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
    direction: Literal["minimize", "maximize"],
    sampler: Callable[..., optuna.samplers.BaseSampler],
    seed: int,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    """Run trials until the study holds so many that ended; those that an earlier start left are ended first.

    Raises:
        ConfigError: no space to search, or a dimension that cannot be.
    """
    several, fixed = split_space(arguments)
    space = {key: distribution(of) for key, of in parse_space({**params, **several}).items()}
    if not space:
        raise ConfigError(
            "there is nothing to search: give a setting several values, as "
            "'prompt.learning_rate=tag(log, interval(0.001,1))'."
        )
    if runner.dry:
        show(f"would search {num_trials} trials over {', '.join(space)}, by {metric}")
        return optuna.create_study()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    runner.root.mkdir(parents=True, exist_ok=True)
    journal = runner.root / "study.journal"
    study = optuna.create_study(
        study_name=STUDY,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction=direction,
        pruner=pruner,
        load_if_exists=True,
    )
    # Another stream of numbers at every start: the first one's would propose the first trials again.
    study.sampler = sampler(seed=seed + len(study.get_trials(deepcopy=False)))
    while (left := num_trials - len(study.get_trials(deepcopy=False, states=ENDED))) > 0:
        # A trial whose process died is still running in the study: its run goes on where it was.
        waiting = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))[:left]
        batch: Sequence[FrozenTrial | Trial] = waiting or [
            study.ask(space) for _ in range(min(num_at_once, left))
        ]
        jobs = runner.run(
            [[*fixed, *settings_of(trial), *reporting(trial, journal, metric)] for trial in batch],
            words=[" ".join([f"trial {trial.number}:", *settings_of(trial)]) for trial in batch],
        )
        for trial, job in zip(batch, jobs, strict=True):
            tell(study, trial.number, job, metric)
        if not any(job.has_ended for job in jobs):
            raise SoftcueError(
                f"trial {batch[0].number} is cut off at every start; see {jobs[0].folders[0].log_path}"
            )
    show(study_table(study, metric=metric))
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    if failed:
        raise SoftcueError(
            f"{len(failed)} of {num_trials} trials failed, the first being trial {failed[0].number}."
        )
    return study


def distribution(dimension: Interval | Options) -> BaseDistribution:
    """A dimension as Optuna names it."""
    if isinstance(dimension, Interval):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return CategoricalDistribution(dimension.values)


def settings_of(trial: FrozenTrial | Trial) -> list[str]:
    """What a trial tries, as overrides."""
    return [f"{key}={value}" for key, value in trial.params.items()]


def reporting(trial: FrozenTrial | Trial, journal: Path, metric: str) -> list[str]:
    """How a trial's run tells the study how it goes."""
    return [f"search.journal={journal}", f"search.trial={trial.number}", f"search.metric={metric}"]


def tell(study: optuna.Study, trial: int, job: Job, metric: str) -> None:
    """Tell the study how a trial's run ended; one that was cut off goes on at the next start."""
    score = mean_score([job], metric)
    if job.is_complete and score is None:
        known = sorted(
            f"{part}/{name}" for r in job.records() for part in r.metrics for name in r.metrics[part]
        )
        raise ConfigError(f"no record holds {metric!r}; search by one of {', '.join(known)}.")
    if score is not None:
        study.tell(trial, score)
    elif job.has_ended:
        pruned = any(record.status == "pruned" for record in job.records())
        study.tell(trial, state=TrialState.PRUNED if pruned else TrialState.FAIL)


def study_table(study: optuna.Study, *, metric: str) -> Table:
    """Every trial, the best marked."""
    table = Table(title=Text(f"search by {metric}"), box=SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("trial", "settings", "state", "score", ""):
        table.add_column(heading)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = study.best_trial.number if complete else None
    for trial in study.get_trials(deepcopy=False):
        settings = " ".join(settings_of(trial))
        score = "" if trial.value is None else f"{trial.value:.3f}"
        mark = "best" if trial.number == best else ""
        table.add_row(*map(Text, (str(trial.number), settings, trial.state.name.lower(), score, mark)))
    return table
