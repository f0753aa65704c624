"""Classes as a config gives them and labels as tables hold them, brought to the same text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from softcue.data.rows import text_of
from softcue.errors import ConfigError

_BOOLEANS = {"true": ("true", "yes", "on"), "false": ("false", "no", "off")}


def class_name(value: object, *, key: str) -> str:
    """A class as text. YAML has numbers and booleans where no quotes are: `1` is "1", `yes` is "true".

    Raises:
        ConfigError: it is empty, a list or a mapping; `key` is where the config has it.
    """
    name = text_of(value) if isinstance(value, str | bool | int | float) else ""
    if not name:
        raise ConfigError(f"{key} has the class {value!r}; give each class a name, in quotes if need be.")
    return name


def label_words(value: object, *, name: str) -> str:
    """The words for a class as text; a number is written out, and a boolean refused with a ConfigError."""
    if isinstance(value, bool):
        raise ConfigError(
            f"data.task.verbalizer has the boolean {text_of(value)} for class {name!r}, as YAML reads yes, "
            "no, on, off, true and false; write the words in quotes."
        )
    return text_of(value)


def named_classes(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task's settings whose classes and label words are text, as records keep them.

    Raises:
        ConfigError: as `class_name` and `label_words`.
    """
    named = dict(task)
    if isinstance(classes := task.get("classes"), list):
        named["classes"] = [class_name(one, key="data.task.classes") for one in classes]
    if isinstance(words := task.get("verbalizer"), dict):
        by_name = {class_name(key, key="data.task.verbalizer"): value for key, value in words.items()}
        named["verbalizer"] = {name: label_words(value, name=name) for name, value in by_name.items()}
    return named


def matching_class(label: str, classes: Collection[str]) -> str | None:
    """The class that a label names, None if there is none.

    It is the class of the same spelling. Failing that, the classes `true` and `false` match every spelling
    of YAML's booleans, in capitals or not: yes and on are true, no and off are false.
    """
    if label in classes:
        return label
    for name, spellings in _BOOLEANS.items():
        if name in classes and label.casefold() in spellings:
            return name
    return None
