"""A run's id follows what determines its result, and nothing else."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from softcue.errors import ConfigError
from softcue.runs.identity import (
    content_paths,
    declarations,
    gather_declarations,
    identity,
    num_processes,
    run_id,
)

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "paths": {"runs": "runs", "nested": {"deep": 1}},
    "prompt": {
        "name": "p_tuning",
        "learning_rate": 0.1,
        "method": {
            "runs": ["a", "b"],
            "path": "c",
            "_identity_": {"runs": "by_content", "path": "by_content"},
        },
        "_identity_": {"learning_rate": "by_reference"},
    },
    "data": {
        "tasks": {"one": {"words": "x"}, "two": {"words": "y"}},
        "_identity_": {"tasks.*.words": "no_effect"},
    },
    "trainer": {
        "devices": 2,
        "num_nodes": 3,
        "_identity_": {"devices": "processes", "num_nodes": "processes"},
    },
    "logger": {"file": "d", "_identity_": {"file": "by_content"}},
    "_identity_": {"paths": "no_effect", "logger": "no_effect"},
}


def id_of(settings: dict[str, Any], *, data: str = "f", **contents: str) -> str:
    return run_id(settings, contents=contents, data_fingerprint=data)


def changed(path: str, value: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SETTINGS)
    *parents, last = path.split(".")
    group = settings
    for parent in parents:
        group = group[parent]
    group[last] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("prompt.name", "prefix_tuning"),
        ("prompt.method.path", "d"),
        ("prompt.method.runs", ["b", "a"]),
        ("prompt.new", None),
        ("data.tasks.one.more", 1),
        ("trainer.devices", 4),
    ],
)
def test_a_setting_counts_unless_it_is_declared(path: str, value: Any) -> None:
    assert id_of(changed(path, value)) != id_of(SETTINGS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paths.runs", "elsewhere"),
        ("paths.nested.deep", 2),
        ("logger.file", "e"),
        ("paths.new", 2),
        ("prompt.learning_rate", 0.2),
        ("data.tasks.one.words", "z"),
    ],
)
def test_a_setting_without_effect_does_not_count(path: str, value: Any) -> None:
    assert id_of(changed(path, value)) == id_of(SETTINGS)


def test_processes_count_as_one_number() -> None:
    settings = changed("trainer.devices", "0,1,2")
    settings["trainer"]["num_nodes"] = 2
    assert identity(settings)["processes"] == 6
    assert id_of(settings) == id_of(SETTINGS)


@pytest.mark.parametrize(("devices", "number"), [(2, 2), ("2", 2), ([5], 1), ("0,", 1), ("0,1", 2)])
def test_devices_are_counted_as_lightning_reads_them(devices: Any, number: int) -> None:
    assert num_processes(devices) == number


def test_a_path_counts_by_the_digest_of_what_lies_there() -> None:
    assert content_paths(SETTINGS) == {"a", "b", "c"}
    moved = changed("prompt.method.path", "elsewhere")
    moved["prompt"]["method"]["runs"] = ["a", "copy"]
    assert id_of(SETTINGS, b="1", c="2") == id_of(moved, copy="1", elsewhere="2")
    assert id_of(SETTINGS, b="1", c="2") != id_of(SETTINGS, b="1", c="3")


def test_declarations_count_nothing_themselves_and_gather_at_the_root() -> None:
    gathered = gather_declarations(SETTINGS)
    assert gathered["prompt"]["method"] == {"runs": ["a", "b"], "path": "c"}
    assert declarations(gathered) == declarations(SETTINGS) == gathered["_identity_"]
    assert id_of(gathered) == id_of(SETTINGS) == id_of(gather_declarations(gathered))


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"_identity_ declares data.rows as never; choose one of"):
        declarations({"data": {"_identity_": {"rows": "never"}}})


def test_the_order_of_settings_leaves_the_id_alone() -> None:
    assert id_of(dict(reversed(SETTINGS.items()))) == id_of(SETTINGS)


def test_other_rows_change_the_id() -> None:
    assert id_of(SETTINGS, data="g") != id_of(SETTINGS)


def test_the_id_is_the_method_and_twelve_hexadecimal_digits() -> None:
    method, digits = id_of(SETTINGS).split("-")
    assert method == "p_tuning"
    assert len(bytes.fromhex(digits)) == 6
