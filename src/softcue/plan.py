"""One run before it starts: its settings, its rows and the folder that its result belongs to."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from softcue.backbone.load import resolve_dtype
from softcue.build import build_data, expect_possible
from softcue.data.run_data import RunData
from softcue.errors import ConfigError, SoftcueError
from softcue.runs.identity import run_id
from softcue.runs.store import RunFolder
from softcue.training.recorder import Recorder
from softcue.training.run import Run

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> tuple[Run, ...]:
    """The run of a config, or all that it trains jointly: settings checked, rows read and split.

    A run that cannot be prepared leaves a record of its error in its folder.

    Raises:
        SoftcueError: settings that are missing or contradict each other, or unusable rows.
    """
    if not any(config.joint.values()):
        return (_prepare(config),)
    return tuple(_prepare(member) for member in members(config))


def _prepare(config: DictConfig) -> Run:
    complete_settings(config)
    data = build_data(config)
    resolved = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    folder = folder_of(resolved, fingerprint_of(data))
    config.paths.run = str(folder.path)
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    run = Run(
        method=settings["prompt"]["name"],
        backbone=settings["backbone"]["name"],
        dtype=settings["backbone"]["dtype"],
        seed=settings["seed"],
        threads=settings["threads"],
        predict_unlabelled=settings["predict_unlabelled"],
        dry=settings["dry"],
        show=settings["show"],
        folder=folder,
        data=data,
        settings=settings,
        config=config,
    )
    try:
        data.load()
        expect_possible(config, data)
    except SoftcueError as error:
        if not (run.dry or run.show):
            Recorder(run).record_refusal(error)
        raise
    return run


def fingerprint_of(data: RunData) -> str:
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
    if run.folder.is_complete_with(unlabelled=run.predict_unlabelled):
        log.info("%s is complete: nothing to do", run.folder.path)
        return False
    if run.dry:
        counts = ", ".join(f"{count} {part} rows" for part, count in run.data.num_rows.items())
        what = "score unlabelled rows" if run.folder.is_complete else "run"
        log.info("%s would %s: %s", run.folder.path, what, counts)
        return False
    return True


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
