"""From a config to runs before they start: their settings, rows, ids and folders."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from softcue.build.checks import validate
from softcue.build.data import build_data, fill_tasks
from softcue.configs.combinations import expect_evolution_possible
from softcue.configs.mistakes import explain
from softcue.configs.ranges import expect_in_range
from softcue.data.classes import named_classes
from softcue.data.run_data import ON_REQUEST, Part, RunData
from softcue.errors import ConfigError, SoftcueError, printable
from softcue.runs.contents import content_digests
from softcue.runs.identity import content_paths, gather_declarations, leaves, paths_as, run_id
from softcue.runs.store import RunFolder
from softcue.training.recorder import Recorder
from softcue.training.run import Run

log = logging.getLogger(__name__)


def prepare(config: DictConfig) -> tuple[Run, ...]:
    """The run of a composed config, or all that it trains jointly: settings checked, rows read and split.

    A run that cannot be prepared leaves a record of its error in its folder.

    Raises:
        SoftcueError: settings that are missing, out of range or contradict each other, or unusable rows.
    """
    config = copy.deepcopy(config)
    expect_evolution_possible(config)
    _say(tuple(fill_tasks(config)))
    return tuple(_prepare(member) for member in members(config))


@cache
def _say(lines: tuple[str, ...]) -> None:
    """Log what was assumed, once in a process: the jobs of a sweep assume the same."""
    for line in lines:
        log.info("%s", printable(line))


def members(config: DictConfig) -> tuple[DictConfig, ...]:
    """The config of each run: itself, or a copy for every seed and learning rate of `joint`, as if alone."""
    for name, several in config.joint.items():
        if not isinstance(several, ListConfig | None):
            raise ConfigError(f"joint.{name} is {several}; give a list, as in joint.{name}=[{several}].")
    if not any(config.joint.values()):
        return (config,)
    seeds = config.joint.seed or [config.seed]
    rates = config.joint.learning_rate or [None]
    copies = []
    for seed, rate in product(seeds, rates):
        member = copy.deepcopy(config)
        member.seed = seed
        if rate is not None:
            member.prompt.learning_rate = member.optimizer.lr = rate
        member.joint.seed = member.joint.learning_rate = None
        copies.append(member)
    return tuple(copies)


def resolve(config: DictConfig) -> dict[str, Any]:
    """All settings as plain values, as a run's id and record take them; what the machine decides is set.

    Raises:
        ConfigError: a setting that is missing, out of range or cannot be resolved.
        DataError: a table from which a task's settings cannot be read.
    """
    fill_tasks(config)
    try:
        # The resolved number type and device count are kept in the config too, for `build`.
        config.backbone.dtype = resolved_dtype_name(config.backbone.dtype)
        if "devices" in config.trainer:
            config.trainer.devices = settled_devices(config.trainer)
        settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        with suppress(OmegaConfBaseException):
            expect_given(config)
        raise ConfigError(explain(error, ())) from error
    settings = gather_declarations(_with_class_names(settings))
    values = dict(leaves(settings))
    if values["paths.runs"] is None:
        raise ConfigError("paths.runs is null; give the folder of all runs, as in paths.runs=runs.")
    if "???" in values.values():
        expect_given(config)
    # A value that others refer to is refused under its own name.
    referred = paths_as(settings, "by_reference")
    expect_in_range(dict(sorted(values.items(), key=lambda item: item[0] not in referred)))
    return settings


def _with_class_names(node: dict[str, Any]) -> dict[str, Any]:
    """Settings in which every task's classes are text: YAML has 0 and true as a number and a boolean."""
    named = named_classes(node)
    return {key: _with_class_names(one) if isinstance(one, dict) else one for key, one in named.items()}


def folder_of(settings: Mapping[str, Any], fingerprint: str) -> RunFolder:
    """The folder of the run of these resolved settings, named by its id."""
    digests = content_digests(content_paths(settings), cache=Path(settings["paths"]["cache"]))
    name = run_id(settings, contents=digests, data_fingerprint=fingerprint)
    return RunFolder(Path(settings["paths"]["runs"]), name)


def asked_parts(settings: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts to score on request."""
    return tuple(part for part in ON_REQUEST if settings[f"predict_{part}"])


def fingerprint_of(data: RunData) -> str:
    """The digest of the rows, or "unknown" if they cannot be read."""
    with suppress(SoftcueError):
        data.read()
    return data.fingerprint


def should_run(run: Run) -> bool:
    """Whether there is anything to do; if not, log why."""
    if run.folder.is_complete_with(run.asked):
        log.info("%s is complete: nothing to do", run.folder.path)
        return False
    if run.dry:
        counts = ", ".join(f"{count} {part} rows" for part, count in run.data.num_rows.items())
        what = "score more rows" if run.folder.is_complete else "run"
        log.info("%s would %s: %s", run.folder.path, what, counts)
        return False
    return True


def _prepare(config: DictConfig) -> Run:
    settings = resolve(config)
    data = build_data(config)
    folder = folder_of(settings, fingerprint_of(data))
    config.paths.run = str(folder.path)
    settings = resolve(config)
    run = Run(
        method=settings["prompt"]["name"],
        backbone=settings["backbone"]["name"],
        dtype=settings["backbone"]["dtype"],
        seed=settings["seed"],
        threads=settings["threads"],
        asked=asked_parts(settings),
        dry=settings["dry"],
        show=settings["show"],
        folder=folder,
        data=data,
        settings=settings,
        config=config,
    )
    try:
        data.load()
        validate(config, data)
    except SoftcueError as error:
        if not (run.dry or run.show):
            Recorder(run).record_refusal(error)
        raise
    return run


def expect_given(config: DictConfig) -> None:
    """Refuse a config in which a setting without a default was not given."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} has no default; give it as {missing[0]}=... (missing: {missing}).")


def resolved_dtype_name(name: str) -> str:
    """The number type of the frozen weights; for `auto`, the one that suits this machine."""
    if name in ("float32", "bfloat16"):
        return name  # without torch, which takes seconds to import
    from softcue.backbone.load import resolve_dtype

    return str(resolve_dtype(name)).removeprefix("torch.")


def settled_devices(trainer: DictConfig) -> Any:
    """The Trainer's `devices`; for "auto" and -1, the number that this machine has.

    Raises:
        ConfigError: neither a number nor a list of devices.
    """
    devices = trainer.devices
    if str(devices) in ("None", "auto", "-1"):
        if trainer.get("accelerator") == "cpu":
            return 1
        import torch

        return max(1, torch.accelerator.device_count())
    if isinstance(devices, (int, str)) and not re.fullmatch(r"[1-9]\d*|\d+(,\d*)+", str(devices)):
        raise ConfigError(f"trainer.devices is {devices!r}; give a whole number, 1 or more, a list or auto.")
    return devices
