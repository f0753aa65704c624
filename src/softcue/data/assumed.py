"""A task where its settings do not say: template and classes from the columns and labels of its table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from softcue.data.pool import expect_column, stray_spaces
from softcue.data.rows import text_of
from softcue.data.tables import LoadedTable
from softcue.data.task import REFERENCES, TextTask
from softcue.errors import ConfigError, DataError, listed

READABLE = ("name", "template", "classes", "verbalizer")
"""The settings of a task that are read from its table where they are null."""

_ROWS_READ = 1000
_WORDS = re.compile(r"[^\W\d_]\S*(\s+\S+){2}")
_SCRIPT = re.compile(r"[^\W\d_a-zA-Z]{6}")


@runtime_checkable
class Tabular(Protocol):
    """A source of rows with a table to look at."""

    label_column: str | None
    id_column: str | None

    def table(self) -> LoadedTable:
        """The table that holds the labelled rows."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Settings of a task by name, and a line for each that a user may want to change."""

    settings: Mapping[str, Any]
    lines: tuple[str, ...] = ()


def assume(task: Mapping[str, Any], source: object) -> Assumed:
    """The settings of a task that are null.

    Raises:
        ConfigError: the source has no table to read them from.
        DataError: the table has no label column, no column of text, or labels that are no classes.
    """
    wanted = [key for key in READABLE if key in task and task[key] is None]
    found: dict[str, Any] = {}
    lines = []
    if wanted == ["verbalizer"]:
        return Assumed(settings={"verbalizer": {name: name for name in map(text_of, task["classes"])}})
    if not isinstance(source, Tabular):
        raise ConfigError(
            f"data.task.{wanted[0]} is null, and {type(source).__name__} has no table to read it from; "
            "give it."
        )
    table = source.table()
    target_columns = _target_columns(task, source)
    if "name" in wanted:
        found["name"] = Path(table.name).stem
    if "template" in wanted:
        found["template"] = template_of(table, target_columns, id_column=source.id_column)
        lines.append(f"{table.name} is read as {found['template']!r} (data.task.template)")
    if "classes" in wanted:
        found["classes"] = classes_of(table, label_column=target_columns[0])
        lines.append(
            f"{len(found['classes'])} classes are in column {target_columns[0]!r}: "
            f"{listed(found['classes'])} (data.task.classes)"
        )
    if "verbalizer" in wanted:
        names = found.get("classes") or map(text_of, task["classes"])
        found["verbalizer"] = {name: name for name in names}
        lines.append(
            "the words for a class are its name (data.task.verbalizer); `softcue-data init` writes a "
            "YAML to edit"
        )
    for text in (found.get("template", ""), *found.get("classes", ())):
        _expect_plain(text, table)
    return Assumed(settings=found, lines=tuple(lines))


def _target_columns(task: Mapping[str, Any], source: Tabular) -> tuple[str, ...]:
    """The columns of what follows a row: the label's, or those of a text task."""
    if "target" in task:
        return TextTask(name="?", template="{?}", target=task["target"]).target.columns
    if source.label_column is None:
        raise ConfigError("data.source.label_column is null; name the column that holds the labels.")
    return (source.label_column,)


def template_of(table: LoadedTable, target_columns: Sequence[str], *, id_column: str | None) -> str:
    """A template of all columns of text: "Title : {title} Text : {text} Label :"."""
    taken = {*target_columns, id_column, "id", "label", REFERENCES}
    columns = [name for name in table.columns if name not in taken and not re.search(r"[{}]|\[soft:", name)]
    texts = {name: _texts(table, name) for name in columns}
    chosen = [name for name in columns if _is_mostly(_is_text, texts[name])]
    chosen = chosen or [name for name in columns if _is_mostly(_has_letter, texts[name])]
    if not chosen:
        raise DataError(
            f"{table.name} has no column of text beside {target_columns[0]!r} (columns: "
            f"{listed(table.columns)}); "
            'give data.task.template, such as "Review : {review} Label :".'
        )
    return " ".join([*(f"{_title(name)} : {{{name}}}" for name in chosen), f"{_title(target_columns[0])} :"])


def classes_of(table: LoadedTable, *, label_column: str) -> list[str]:
    """The labels that occur, in numerical order if all are numbers, otherwise in alphabetical order."""
    expect_column(table, label_column, key="source.label_column")
    labels: dict[str, str] = {}
    num_labelled = 0
    for row in table.rows:
        label = text_of(row.values.get(label_column))
        num_labelled += bool(label)
        labels.setdefault(label, row.where)
    labels.pop("", None)
    for label, where in labels.items():
        if label != label.strip():
            raise stray_spaces(where, label, label.strip())
    if len(labels) > max(2, num_labelled // 2):
        raise DataError(
            f"column {label_column!r} of {table.name} has {len(labels)} different values in {num_labelled} "
            "rows, so it hardly holds classes; name another as data.source.label_column, or give "
            "data.task.classes."
        )
    if not labels:
        raise DataError(f"column {label_column!r} of {table.name} is empty; training needs labelled rows.")
    return _ordered(labels)


def _expect_plain(text: str, table: LoadedTable) -> None:
    """Refuse text of a table that a config would read as an interpolation or as a missing value."""
    if "${" in text or text == "???":
        raise DataError(
            f"{table.name} has the column or label {text!r}, which a config cannot hold; rename it there."
        )


def _ordered(labels: Collection[str]) -> list[str]:
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels, key=lambda label: (label.casefold(), label))


def _title(column: str) -> str:
    return column[:1].upper() + column[1:]


def _texts(table: LoadedTable, column: str) -> list[str]:
    cells = (text_of(row.values.get(column)).strip() for row in table.rows[:_ROWS_READ])
    return [cell for cell in cells if cell]


def _is_mostly(holds: Callable[[str], bool], texts: Sequence[str]) -> bool:
    return bool(texts) and 2 * sum(map(holds, texts)) >= len(texts)


def _is_text(cell: str) -> bool:
    """Whether a cell holds three words, or six letters in a row of a script other than the Latin one."""
    return bool(_WORDS.search(cell) or _SCRIPT.search(cell))


def _has_letter(cell: str) -> bool:
    return any(character.isalpha() for character in cell)
