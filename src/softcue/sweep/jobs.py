"""The jobs of a sweep before any runs: their settings, their folders, and whether they can run at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track

from softcue.build.checks import validate
from softcue.build.data import build_data
from softcue.configs.compose import Composer
from softcue.configs.mistakes import explain
from softcue.errors import ConfigError, DataError, SoftcueError
from softcue.plan import asked_parts, fingerprint_of, folder_of, members, resolve
from softcue.runs.store import RunFolder
from softcue.sweep.seeds import SeedSeries, split_seed

PROGRESS_BAR_MIN_JOBS = 50
"""From so many jobs on, reading them shows a progress bar."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job: its overrides, the label that distinguishes it, and the folders of its run or joint runs.

    `asked` are the parts that it scores on request. `kind` stands for its settings without seeds: jobs of one
    kind can run or not together.
    """

    number: int
    overrides: tuple[str, ...]
    label: str
    folders: tuple[RunFolder, ...]
    asked: tuple[str, ...]
    kind: str


class Jobs:
    """Makes jobs from overrides, under the config of the command that they belong to."""

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._composer = Composer(loader, hydra_overrides=list(config.hydra.overrides.hydra))
        self._fingerprints: dict[str, str] = {}
        self._series: dict[tuple[str, ...], SeedSeries] = {}

    def from_overrides(
        self, overrides: Iterable[Sequence[str]], labels: Sequence[str] | None = None
    ) -> list[Job]:
        """A job for each list of overrides; its label is by default the overrides that not all share.

        Raises:
            ConfigError: a job that cannot be composed; it is named.
        """
        lists = [tuple(of_job) for of_job in overrides]
        shared = set.intersection(*map(set, lists)) if len(lists) > 1 else set()
        labels = labels or [" ".join(one for one in of_job if one not in shared) for of_job in lists]
        labelled = list(zip(lists, labels, strict=True))
        return [
            self._job(number, of_job, label)
            for number, (of_job, label) in enumerate(_with_bar(labelled, "read jobs"))
        ]

    def validate(self, jobs: Sequence[Job]) -> None:
        """Refuse the sweep if settings of a job contradict each other, naming the first.

        What is wrong with a job's rows is that job's own failure, later.
        """
        problems = []
        for job in _with_bar(list({job.kind: job for job in reversed(jobs)}.values())[::-1], "check jobs"):
            try:
                with suppress(DataError):
                    self._validate_job(job)
            except SoftcueError as error:
                problems.append(f"job {job.number} ({job.label}): {error}")
        if problems:
            more = f" {len(problems) - 1} more cannot run either." if len(problems) > 1 else ""
            raise ConfigError(f"no job was started: {problems[0]}{more}")

    def _validate_job(self, job: Job) -> None:
        config = self._composer.compose(job.overrides)
        data = build_data(config)
        data.load()
        validate(config, data)

    def _job(self, number: int, overrides: tuple[str, ...], label: str) -> Job:
        seed, rest = split_seed(overrides)
        series = self._series.setdefault(rest, SeedSeries())
        known = None if seed is None else series.at(seed)
        rows = None if known is None else self._fingerprints.get(_rows(known))
        if known is not None and rows is not None:
            return _made(number, overrides, label, known, (folder_of(known, rows),))
        try:
            config = self._composer.compose(overrides)
            settings = [(member, resolve(member)) for member in members(config)]
            folders = tuple(self._folder(*of) for of in settings)
        except (HydraException, OmegaConfBaseException, SoftcueError) as error:
            reason = error if isinstance(error, SoftcueError) else explain(error, ())
            raise ConfigError(f"no job was started: job {number} ({label}): {reason}") from error
        if seed is not None and len(settings) == 1:
            series.add(seed, settings[0][1])
        return _made(number, overrides, label, settings[0][1], folders)

    def _folder(self, config: DictConfig, settings: Mapping[str, Any]) -> RunFolder:
        rows = _rows(settings)
        if rows not in self._fingerprints:
            self._fingerprints[rows] = fingerprint_of(build_data(config))
        return folder_of(settings, self._fingerprints[rows])


def _made(
    number: int,
    overrides: tuple[str, ...],
    label: str,
    settings: Mapping[str, Any],
    folders: tuple[RunFolder, ...],
) -> Job:
    return Job(
        number=number,
        overrides=overrides,
        label=label,
        folders=folders,
        asked=asked_parts(settings),
        kind=json.dumps(without_seeds(settings), sort_keys=True),
    )


def _rows(settings: Mapping[str, Any]) -> str:
    """What determines the rows of a run."""
    return json.dumps(settings["data"], sort_keys=True)


def without_seeds(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without every seed in them."""
    return {
        key: without_seeds(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key != "seed"
    }


def _with_bar(jobs: Sequence[T], what: str) -> Iterable[T]:
    return track(jobs, description=what, disable=len(jobs) < PROGRESS_BAR_MIN_JOBS, transient=True)
