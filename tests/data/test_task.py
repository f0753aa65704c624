"""The checks of a task's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from omegaconf import OmegaConf

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
        ({"classes": (0, 1)}, r"data\.task\.classes has 0, which is not text\. Put it in quotes"),
        (
            {"verbalizer": {"complaint": True, "no complaint": "no"}},
            r"data\.task\.verbalizer has True, which is not text",
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
