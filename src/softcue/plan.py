"""One run before it starts: its settings, its rows and the folder that its result belongs to."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from softcue.backbone.load import resolve_dtype
from softcue.build import build_data, expect_possible
from softcue.data.datamodule import PARTS, Part, PromptData
from softcue.data.mixture import MixedData
from softcue.errors import ConfigError, SoftcueError
from softcue.runs.identity import run_id
from softcue.runs.store import RunFolder
from softcue.training.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run before it starts: its config, its rows and where it belongs."""

    settings: DictConfig
    data: PromptData | MixedData
    folder: RunFolder


def prepare(settings: DictConfig) -> Run:
    """Check what was given, read the rows, and name the run's folder.

    A run that cannot even be prepared leaves a record that says why, where it would have been.
    """
    complete_settings(settings)
    data = build_data(settings)
    resolved = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
    folder = folder_of(resolved, fingerprint_of(data))
    settings.paths.run = str(folder.path)
    try:
        data.load()
        expect_possible(settings, data)
    except SoftcueError as error:
        if not (settings.dry or settings.show):
            Session(folder, settings, data).refuse(error)
        raise
    return Run(settings=settings, data=data, folder=folder)


def fingerprint_of(data: PromptData | MixedData) -> str:
    """The content of the rows, or "unknown" if they cannot be read."""
    with suppress(SoftcueError):
        data.read()
    return data.fingerprint


def members(settings: DictConfig) -> list[DictConfig]:
    """The configs of packed runs: every seed with every learning rate, as they would be alone."""
    seeds = settings.joint.seed or [settings.seed]
    rates = settings.joint.learning_rate or [settings.optimizer.lr]
    configs = []
    for seed, rate in product(seeds, rates):
        config = copy.deepcopy(settings)
        config.seed, config.optimizer.lr = seed, rate
        config.joint.seed = config.joint.learning_rate = None
        configs.append(config)
    return configs


def should_run(run: Run) -> bool:
    """Whether there is anything to run, and a line that says so if there is not."""
    if run.folder.is_complete:
        log.info("%s is complete: nothing to do", run.folder.path)
        return False
    if run.settings.dry:
        counts = ", ".join(f"{len(run.data.ids(part))} {part} rows" for part in PARTS)
        log.info("%s would run: %s", run.folder.path, counts)
        return False
    return True


def parts_to_score(settings: DictConfig, data: PromptData | MixedData) -> list[Part]:
    """The parts that have rows, the unlabelled one only if asked for."""
    wanted = [part for part in PARTS if part != "unlabelled" or settings.predict_unlabelled]
    return [part for part in wanted if data.ids(part)]


def complete_settings(settings: DictConfig) -> None:
    """Name every setting that has no default and was not given; settle what the machine decides."""
    missing = sorted(OmegaConf.missing_keys(settings))
    if missing:
        raise ConfigError(f"{missing[0]} has no default; give it as {missing[0]}=... (missing: {missing}).")
    settings.backbone.dtype = resolved_dtype_name(settings.backbone.dtype)


def folder_of(settings: Mapping[str, Any], fingerprint: str) -> RunFolder:
    """Where the run of these resolved settings belongs, named by what determines its result."""
    name = run_id(method=settings["prompt"]["name"], settings=settings, data_fingerprint=fingerprint)
    return RunFolder(Path(settings["paths"]["runs"]), name)


def resolved_dtype_name(name: str) -> str:
    """The number type, where `auto` leaves it to the machine."""
    return str(resolve_dtype(name)).removeprefix("torch.")
