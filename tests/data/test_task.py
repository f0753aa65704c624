"""The checks of a task's settings."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

from softcue.data.classes import matching_class
from softcue.data.task import Task
from softcue.errors import SoftcueError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a",)}, r"data\.task\.classes is \['a'\]; a task needs at least 2"),
        ({"classes": ("a", "b", "a")}, r"data\.task\.classes names 'a' more than once"),
        ({"verbalizer": {"complaint": "yes"}}, r"verbalizer lacks \['no complaint'\] and has \[\] beyond"),
        (
            {"verbalizer": {"complaint": "yes", "no complaint": "no", "c": "d"}},
            r"verbalizer lacks \[\] and has \['c'\] beyond",
        ),
        (
            {"verbalizer": {"complaint": "x", "no complaint": "x"}},
            r"verbalizer gives 'x' to class 'complaint'",
        ),
        (
            {"verbalizer": {"complaint": " x", "no complaint": "y"}},
            r"verbalizer has ' x' for class 'complaint'",
        ),
        (
            {"verbalizer": {"complaint": "x", "no complaint": ""}},
            r"verbalizer has '' for class 'no complaint'",
        ),
        ({"classes": ("a", None)}, r"data\.task\.classes has the class None; give each class a name"),
        ({"classes": ("a", "")}, r"data\.task\.classes has the class ''; give each class a name"),
        ({"classes": ("a", ("b",))}, r"data\.task\.classes has the class \('b',\); give each class a name"),
        ({"classes": (1, "1")}, r"data\.task\.classes names '1' more than once"),
        (
            {"verbalizer": {"complaint": True, "no complaint": "no"}},
            r"verbalizer has the boolean true for class 'complaint', as YAML reads yes, .* in quotes",
        ),
        ({"template": "{t} Label : "}, r"data\.task\.template ends in whitespace \(' Label : '\)"),
        ({"template": "Label :"}, r"data\.task\.template is 'Label :' without any column"),
        (
            {"template": "{label} :"},
            r"data\.task\.template uses column 'label'; \['id', 'label'\] are reserved",
        ),
    ],
)
def test_a_mistake_in_a_task_is_reported_with_its_key(
    task: Task, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SoftcueError, match=message):
        replace(task, **change)


def test_a_configs_lists_and_mappings_become_plain_python(task: Task) -> None:
    config = OmegaConf.create({"classes": list(task.classes), "verbalizer": dict(task.verbalizer)})
    assert replace(task, classes=config.classes, verbalizer=config.verbalizer) == task


def test_classes_and_verbalizer_keys_of_any_scalar_type_become_text(task: Task) -> None:
    config = OmegaConf.create("{classes: [0, 1.5, yes, x], verbalizer: {0: zero, 1.5: 15, true: y, x: z}}")
    own = replace(task, classes=config.classes, verbalizer=config.verbalizer)
    assert own.classes == ("0", "1.5", "true", "x")
    assert own.verbalizer == {"0": "zero", "1.5": "15", "true": "y", "x": "z"}


def test_a_task_survives_the_json_of_a_record(task: Task) -> None:
    config = OmegaConf.create("{classes: [0, yes], verbalizer: {0: zero, yes: one}}")
    stored = json.loads(json.dumps(OmegaConf.to_container(config)))
    assert replace(task, **stored) == replace(task, classes=config.classes, verbalizer=config.verbalizer)


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ("true", ["true", "false"], "true"),
        ("True", ["true", "false"], "true"),
        ("YES", ["true", "false"], "true"),
        ("off", ["true", "false"], "false"),
        ("yes", ["true", "yes"], "yes"),
        ("no", ["true", "maybe"], None),
        ("1", ["true", "false"], None),
        ("Yes", ["yes", "no"], None),
        (" true", ["true", "false"], None),
    ],
)
def test_a_label_matches_its_spelling_or_a_boolean(
    label: str, classes: list[str], expected: str | None
) -> None:
    assert matching_class(label, classes) == expected
