"""A run's id moves with every setting of every config, except those that are declared without effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.plan import resolve
from softcue.runs.identity import DECLARATIONS, declarations, identity, leaves, paths_as, run_id
from tests.composing import CHOICES, choose

OF_SOURCE = [f"{place}.initialiser.backbone" for place in ("prompt", "prompt.method")]
"""The settings of the model that a recycled prompt was trained for."""
NO_EFFECT = {
    *(
        f"{backbone}.{name}"
        for backbone in OF_SOURCE
        for name in ("cache_dir", "engine", "gradient_checkpointing")
    ),
    "backbone.cache_dir",
    "backbone.engine",
    "backbone.gradient_checkpointing",
    "cache",
    "callbacks.best.dirpath",
    "callbacks.epoch_log",
    "callbacks.last",
    "callbacks.progress_bar",
    "data.eval_batch_size",
    "data.num_workers",
    "data.padding",
    "data.source.folder",
    "dry",
    "joint",
    "logger",
    "paths",
    "predict_train",
    "predict_unlabelled",
    "search",
    "show",
    "threads",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.strategy",
}
BY_REFERENCE = {
    "data.anchor",
    "data.instruction",
    "data.task_names",
    "data.tasks.*.instruction",
    "prompt.initialiser",
    "prompt.learning_rate",
    "prompt.member",
    "prompt.path",
    "prompt.runs",
    "prompt.source",
    "prompt.sources",
    "prompt.vote",
}
BY_CONTENT = {
    "backbone.path",
    "data.source.path",
    "data.source.test_path",
    "data.source.unlabelled_path",
    "objective.teachers",
    "prompt.initialiser.library",
    "prompt.initialiser.path",
    "prompt.initialiser.query",
    "prompt.method.initialiser.library",
    "prompt.method.initialiser.path",
    "prompt.method.initialiser.query",
    "prompt.method.path",
    "prompt.method.runs",
    "prompt.method.source",
    "prompt.method.sources",
}
PROCESSES = {"trainer.devices", "trainer.num_nodes"}


@pytest.fixture(scope="module")
def every_config() -> dict[str, dict[str, Any]]:
    return {choice: resolve(choose(choice)) for choice in CHOICES}


def perturbed(
    settings: Mapping[str, Any], seen: set[tuple[str, str, bool]], declared: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings with another value for one of them, for each that no config before had in this way."""
    for path, value in leaves(settings):
        way = (path, repr(value), path in declared)
        if way in seen:
            continue
        seen.add(way)
        other: dict[str, Any] = dict(settings)
        group, parts = other, list(_parts(settings, path))
        for part in parts[:-1]:
            group[part] = dict(group[part])
            group = group[part]
        group[parts[-1]] = _other(value)
        yield path, other


def _parts(settings: Mapping[str, Any], path: str) -> Iterator[str]:
    """The keys on the way to a setting; those of classes may hold dots."""
    while path:
        key = next(key for key in settings if path == key or path.startswith(f"{key}."))
        yield key
        settings, path = settings[key], path[len(key) + 1 :]


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, "other"] if isinstance(value, list) else f"{value} other"


def test_the_id_moves_exactly_with_the_settings_that_determine_the_result(
    every_config: dict[str, dict[str, Any]],
) -> None:
    unread = re.compile("|".join(f"{path}(\\..*)?" for path in NO_EFFECT | BY_REFERENCE))
    wrong: list[str] = []
    seen: set[tuple[str, str, bool]] = set()
    for choice, settings in every_config.items():
        before = run_id(settings, contents={}, data_fingerprint="f")
        declared = paths_as(settings, "no_effect", "by_reference")
        for path, other in perturbed(settings, seen, declared):
            moved = run_id(other, contents={}, data_fingerprint="f") != before
            if moved == bool(unread.fullmatch(path)):
                wrong.append(f"{choice}: {path} {'moves' if moved else 'does not move'} the id")
    assert wrong == []
    assert len(seen) > 500


def test_the_declarations_are_these(every_config: dict[str, dict[str, Any]]) -> None:
    roles: dict[str, set[str]] = {}
    for settings in every_config.values():
        for path, role in declarations(settings).items():
            roles.setdefault(role, set()).add(path)
    assert roles == {
        "no_effect": NO_EFFECT,
        "by_reference": BY_REFERENCE,
        "by_content": BY_CONTENT,
        "processes": PROCESSES,
        "where_given": {
            *(f"{backbone}.chat" for backbone in ("backbone", *OF_SOURCE)),
            *("data.decoding", "data.max_target_length", "data.train_unlabelled", "trainer.max_steps"),
            *("prompt.attentions", "prompt.submodules"),
        },
    }


def test_one_process_has_one_id_on_every_trainer(every_config: dict[str, dict[str, Any]]) -> None:
    ddp, cpu = deepcopy(every_config["trainer=ddp"]), every_config["trainer=cpu"]
    assert identity(ddp) == {**identity(cpu), "processes": 2}
    ddp["trainer"]["devices"] = 1
    assert identity(ddp) == identity(cpu)


def test_every_declaration_is_in_the_file_of_its_setting() -> None:
    for file in CONFIG_PATH.rglob("*.yaml"):
        config = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file)))
        groups = str(config.pop("defaults", []))
        for mapping in mappings(config):
            for path in mapping.get(DECLARATIONS, {}):
                name = path.partition(".")[0]
                assert name in mapping or f"'{name}'" in groups, f"{file.name} declares {path}"


def mappings(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from mappings(value)
