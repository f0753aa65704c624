"""The jobs of a sweep before any runs: their settings, their folders, and whether they can run at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.progress import track

from softcue.build import build_data, expect_possible
from softcue.errors import ConfigError, DataError, SoftcueError
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.train import complete_settings, fingerprint_of, folder_of, members

WORTH_A_BAR = 50
"""Jobs from which on a progress bar is shown while they are looked at."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job: all its overrides, those that set it apart, and the folder of its run or packed runs."""

    number: int
    overrides: tuple[str, ...]
    words: str
    folders: tuple[RunFolder, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing of it is left to do."""
        return all(folder.is_complete for folder in self.folders)

    @property
    def has_ended(self) -> bool:
        """Whether its last start came to an end: well, with an error, or given up by a search."""
        records = self.records()
        return len(records) == len(self.folders) and all(record.status != "running" for record in records)

    @property
    def is_busy(self) -> bool:
        """Whether another process runs it now."""
        return any(folder.is_busy for folder in self.folders)

    def records(self) -> list[RunRecord]:
        """The records that its runs have left so far."""
        found = [folder.record() for folder in self.folders]
        return [record for record in found if record is not None]


class Jobs:
    """Makes jobs of overrides, under the config of the command that they came with.

    Composing takes Hydra a tenth of a second, so it is done once for each choice of options; other
    values are put into what was composed. So the jobs of a large sweep are known within seconds.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = cast(ConfigLoaderImpl, loader), config
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._fingerprints: dict[str, str] = {}

    def of(self, overrides: Iterable[Sequence[str]], words: Sequence[str] | None = None) -> list[Job]:
        """A job for each list of overrides; its `words` are by default the overrides that not all share.

        Raises:
            ConfigError: a job that cannot be composed; it is named.
        """
        lists = [tuple(of_job) for of_job in overrides]
        shared = set.intersection(*map(set, lists)) if len(lists) > 1 else set()
        words = words or [" ".join(one for one in of_job if one not in shared) for of_job in lists]
        jobs = []
        for number, (of_job, of_words) in enumerate(
            _shown(list(zip(lists, words, strict=True)), "read jobs")
        ):
            try:
                folders = self._folders(of_job)
            except (HydraException, OmegaConfBaseException, SoftcueError) as error:
                raise ConfigError(f"no job was started: job {number} ({of_words}): {error}") from error
            jobs.append(Job(number=number, overrides=of_job, words=of_words, folders=folders))
        return jobs

    def expect_possible(self, jobs: Sequence[Job]) -> None:
        """Refuse the sweep if settings of a job contradict each other, naming the first.

        Rows are another matter: what a job finds wrong with its data is that job's own failure, later.
        """
        problems = []
        for job in _shown(jobs, "check jobs"):
            with suppress(DataError):
                try:
                    config = self._config_of(job.overrides)
                    data = build_data(config)
                    data.load()
                    expect_possible(config, data)
                except DataError:
                    raise
                except SoftcueError as error:
                    problems.append(f"job {job.number} ({job.words}): {error}")
        if problems:
            more = f" {len(problems) - 1} more cannot run either." if len(problems) > 1 else ""
            raise ConfigError(f"no job was started: {problems[0]}{more}")

    def _folders(self, overrides: Sequence[str]) -> tuple[RunFolder, ...]:
        config = self._config_of(overrides)
        complete_settings(config)
        if any(config.packed.values()):
            return tuple(self._folder(member) for member in members(config))
        return (self._folder(config),)

    def _folder(self, config: DictConfig) -> RunFolder:
        key = json.dumps(OmegaConf.to_container(config.data, resolve=True), sort_keys=True)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint_of(build_data(config))
        return folder_of(config, self._fingerprints[key])

    def _config_of(self, overrides: Sequence[str]) -> DictConfig:
        """A job's config; valid until the next is asked for, as they share what was composed."""
        parsed = self._parser.parse_overrides(list(overrides))
        values = [override for override in parsed if self._is_value(override)]
        choices = [str(override.input_line) for override in parsed if not self._is_value(override)]
        key = (*choices, *sorted(override.key_or_group for override in values))
        if key not in self._composed:
            # With the values too, so that it is Hydra that complains of names it does not know.
            composed = self._loader.load_sweep_config(self._config, list(overrides))
            with open_dict(composed):
                del composed["hydra"]
            self._composed[key] = composed
        config = self._composed[key]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        return config

    def _is_value(self, override: Override) -> bool:
        """Whether it puts a value into what is composed, and leaves alone what is composed."""
        return not (
            override.is_add()
            or override.is_force_add()
            or override.is_delete()
            # would be merged with what the job before has put there
            or isinstance(override.value(), dict)
            or self._loader.repository.group_exists(override.key_or_group)
        )


def _shown(jobs: Sequence[Any], what: str) -> Iterable[Any]:
    return track(jobs, description=what, disable=len(jobs) < WORTH_A_BAR, transient=True)
