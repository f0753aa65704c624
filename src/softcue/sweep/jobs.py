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
from softcue.plan import complete_settings, fingerprint_of, folder_of, members, resolved_dtype_name
from softcue.runs.store import RunFolder
from softcue.sweep.composed import Composed

WORTH_A_BAR = 50
"""Jobs from which on a progress bar is shown while they are looked at."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job: all its overrides, those that set it apart, and the folder of its run or packed runs."""

    number: int
    overrides: tuple[str, ...]
    label: str
    folders: tuple[RunFolder, ...]


class Jobs:
    """Makes jobs of overrides, under the config of the command that they came with.

    Composing takes Hydra a tenth of a second, so it is done once for each choice of options; other
    values are put into what was composed. So the jobs of a large sweep are known within seconds.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = cast(ConfigLoaderImpl, loader), config
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed: dict[tuple[str, ...], Composed] = {}
        self._overrides: dict[str, tuple[Override, bool]] = {}
        self._fingerprints: dict[str, str] = {}

    def from_overrides(
        self, overrides: Iterable[Sequence[str]], labels: Sequence[str] | None = None
    ) -> list[Job]:
        """A job for each list of overrides; its `labels` are by default the overrides that not all share.

        Raises:
            ConfigError: a job that cannot be composed; it is named.
        """
        lists = [tuple(of_job) for of_job in overrides]
        shared = set.intersection(*map(set, lists)) if len(lists) > 1 else set()
        labels = labels or [" ".join(one for one in of_job if one not in shared) for of_job in lists]
        jobs = []
        for number, (of_job, label) in enumerate(_shown(list(zip(lists, labels, strict=True)), "read jobs")):
            try:
                folders = self._folders(of_job)
            except (HydraException, OmegaConfBaseException, SoftcueError) as error:
                raise ConfigError(f"no job was started: job {number} ({label}): {error}") from error
            jobs.append(Job(number=number, overrides=of_job, label=label, folders=folders))
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
                    problems.append(f"job {job.number} ({job.label}): {error}")
        if problems:
            more = f" {len(problems) - 1} more cannot run either." if len(problems) > 1 else ""
            raise ConfigError(f"no job was started: {problems[0]}{more}")

    def _folders(self, overrides: Sequence[str]) -> tuple[RunFolder, ...]:
        composed, values = self._composed_for(overrides)
        settings = composed.with_values({one.key_or_group: one.value() for one in values})
        if settings is not None and not any(settings["joint"].values()) and not _has_missing(settings):
            settings["backbone"]["dtype"] = resolved_dtype_name(settings["backbone"]["dtype"])
            return (self._folder(settings, overrides),)
        config = self._config_of(overrides)
        complete_settings(config)
        of_runs = members(config) if any(config.joint.values()) else [config]
        return tuple(
            self._folder(cast(dict[str, Any], OmegaConf.to_container(of_run, resolve=True)), overrides)
            for of_run in of_runs
        )

    def _folder(self, settings: dict[str, Any], overrides: Sequence[str]) -> RunFolder:
        key = json.dumps(settings["data"], sort_keys=True)
        if key not in self._fingerprints:
            self._fingerprints[key] = fingerprint_of(build_data(self._config_of(overrides)))
        return folder_of(settings, self._fingerprints[key])

    def _config_of(self, overrides: Sequence[str]) -> DictConfig:
        """A job's config; valid until the next is asked for, as they share what was composed."""
        composed, values = self._composed_for(overrides)
        ConfigLoaderImpl._apply_overrides_to_config(list(values), composed.config)
        return composed.config

    def _composed_for(self, overrides: Sequence[str]) -> tuple[Composed, list[Override]]:
        """What Hydra composes for these choices of options, and the values to put into it."""
        parsed = [self._parsed(text) for text in overrides]
        values = [override for override, is_value in parsed if is_value]
        choices = [str(override.input_line) for override, is_value in parsed if not is_value]
        key = (*choices, *sorted(override.key_or_group for override in values))
        if key not in self._composed:
            # With the values too, so that it is Hydra that complains of names it does not know.
            config = self._loader.load_sweep_config(self._config, list(overrides))
            with open_dict(config):
                del config["hydra"]
            self._composed[key] = Composed.of(config, [override.key_or_group for override in values])
        return self._composed[key], values

    def _parsed(self, text: str) -> tuple[Override, bool]:
        """An override, and whether it is a value for what is composed, and no change of what is composed."""
        if text not in self._overrides:
            (override,) = self._parser.parse_overrides([text])
            is_value = not (
                override.is_add()
                or override.is_force_add()
                or override.is_delete()
                # would be merged with what the job before has put there
                or isinstance(override.value(), dict)
                or self._loader.repository.group_exists(override.key_or_group)
            )
            self._overrides[text] = (override, is_value)
        return self._overrides[text]


def _has_missing(node: object) -> bool:
    if isinstance(node, dict):
        return any(_has_missing(value) for value in node.values())
    return node == "???"


def _shown(jobs: Sequence[Any], what: str) -> Iterable[Any]:
    return track(jobs, description=what, disable=len(jobs) < WORTH_A_BAR, transient=True)
