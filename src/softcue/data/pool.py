"""All rows of a task, checked in one place whatever source they come from."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from softcue.data import template
from softcue.data.classes import matching_class
from softcue.data.columns import Columns, digest_of
from softcue.data.rows import TableRow, text_of
from softcue.data.tables import LoadedTable
from softcue.data.task import REFERENCES, Task, TextTask
from softcue.errors import DataError, listed
from softcue.runs.contents import content_digest


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All rows of a task, with the columns "id", the template's and "label".

    `labelled` rows are free to split; `held_out` are labelled rows that the source itself sets aside
    for testing; `unlabelled` rows have no "label". `fingerprint` is 16 hex digits over all content.
    In a text task all labels are alike, and "references" holds the row's texts as a JSON list.
    """

    labelled: Columns
    held_out: Columns | None
    unlabelled: Columns
    fingerprint: str


class Source(Protocol):
    """Where rows come from."""

    def load(self, task: Task) -> Pool:
        """All rows of the task; raises a DataError or TemplateError for rows that cannot be used."""


@runtime_checkable
class FileSource(Source, Protocol):
    """A source whose rows are determined by its settings and by the content of files."""

    def files(self) -> tuple[Path, ...]:
        """The files that `load` reads."""


@dataclass(frozen=True, kw_only=True)
class _Reading:
    key: str
    source: Source = field(compare=False)
    task: Task = field(compare=False)


def load_pool(source: Source, task: Task) -> Pool:
    """All rows of a task; the runs of a process read the same files once while they do not change.

    Raises:
        SoftcueError: as `Source.load`.
    """
    if not isinstance(source, FileSource):
        return source.load(task)
    contents = [content_digest(path, cache=None) for path in source.files()]
    return load_once(_Reading(key=f"{source} {task} {contents}", source=source, task=task))


@lru_cache(maxsize=8)
def load_once(reading: _Reading) -> Pool:
    """Read; equal readings, by key, share their rows."""
    return reading.source.load(reading.task)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A table's row as a task sees it. `where` names file and line.

    `label` is "" for none, and `references` are the texts that may follow it in a text task.
    """

    where: str
    id: str
    texts: tuple[str, ...]
    label: str
    references: tuple[str, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether it can be trained on."""
        return bool(self.label or self.references)


def pick_examples(
    table: LoadedTable,
    task: Task,
    *,
    id_column: str | None,
    label_column: str | None,
    has_targets: bool = True,
) -> list[Example]:
    """The task's columns of a table as text; a missing value is "", an id without a column "file:row".

    The references of a text task are in its own columns, which a table without targets need not have.
    """
    targets = task.target.columns if isinstance(task, TextTask) and has_targets else ()
    named = {"source.id_column": [id_column], "source.label_column": [label_column]}
    for key, names in {**named, "task.target.column": targets}.items():
        for name in names:
            if name is not None:
                expect_column(table, name, key=key)
    parsed = template.parse(task.template, key=template.TASK_KEY)
    parsed.check_columns(table.columns, where=table.name)
    return [
        Example(
            where=row.where,
            id=f"{table.name}:{number}" if id_column is None else _text(row, id_column),
            texts=tuple(_text(row, name) for name in task.columns),
            label="" if label_column is None else _text(row, label_column),
            references=_references(row, targets),
        )
        for number, row in enumerate(table.rows, start=1)
    ]


def expect_column(table: LoadedTable, name: str, *, key: str) -> None:
    """Refuse a table that lacks the column that `data.<key>` names."""
    if name not in table.columns:
        raise DataError(
            f"data.{key} is {name!r}, which {table.name} does not have (columns: "
            f"{listed(sorted(table.columns))}). Name one of these."
        )


def make_pool(
    task: Task,
    *,
    labelled: Sequence[Example],
    held_out: Sequence[Example] | None,
    unlabelled: Sequence[Example],
    where: str,
) -> Pool:
    """Check examples and freeze them; `where` names the source in errors that no single row causes."""
    if not labelled and isinstance(task, TextTask):
        raise DataError(
            f"{where} has no text in {list(task.target.columns)}; training needs some. Fill the column, or "
            "name another as data.task.target.column."
        )
    if not labelled:
        raise DataError(f"{where} has no labelled row; training needs some. Fill the label column.")
    for examples in (labelled, held_out or (), unlabelled):
        _check_ids(examples)
    free = _labelled(labelled, task)
    kept = None if held_out is None else _labelled(held_out, task)
    rest = Columns(by_name=_texts(unlabelled, task))
    return Pool(
        labelled=free,
        held_out=kept,
        unlabelled=rest,
        fingerprint=digest_of([None if part is None else part.by_name for part in (free, kept, rest)])[:16],
    )


def stray_spaces(where: str, label: str, name: str) -> DataError:
    """The error of a label that names a class but for the spaces around it."""
    return DataError(
        f"{where} has label {label!r}, with spaces around class {name!r}. Delete them in the file."
    )


def _text(row: TableRow, column: str) -> str:
    return text_of(row.values.get(column))


def _references(row: TableRow, columns: Collection[str]) -> tuple[str, ...]:
    """The texts of some columns, of which each may hold a list; empty ones are none."""
    values = [row.values.get(name) for name in columns]
    texts = [text_of(one) for value in values for one in (value if isinstance(value, list) else [value])]
    return tuple(text.strip() for text in texts if text.strip())


def _labelled(examples: Sequence[Example], task: Task) -> Columns:
    for example in examples:
        if not any(text.strip() for text in example.texts):
            raise DataError(
                f"{example.where} has a label but no text in {list(task.columns)}. Fill or delete the row."
            )
    columns = _texts(examples, task)
    if isinstance(task, TextTask):
        for example in examples:
            if not example.references:
                raise DataError(
                    f"{example.where} has no text in {list(task.target.columns)}. Fill it, or delete the row."
                )
        columns["label"] = ["text"] * len(examples)
        columns[REFERENCES] = [json.dumps(example.references, ensure_ascii=False) for example in examples]
    else:
        columns["label"] = [_class(example, task) for example in examples]
    return Columns(by_name=columns)


def _texts(examples: Sequence[Example], task: Task) -> dict[str, list[str]]:
    texts = {name: [example.texts[at] for example in examples] for at, name in enumerate(task.columns)}
    return {"id": [example.id for example in examples], **texts}


def _class(example: Example, task: Task) -> str:
    name = matching_class(example.label, task.classes)
    if name is not None:
        return name
    if (stripped := matching_class(example.label.strip(), task.classes)) is not None:
        raise stray_spaces(example.where, example.label, stripped)
    raise DataError(
        f"{example.where} has label {example.label!r}; data.task.classes are {listed(task.classes)}. "
        "Fix the label, or add the class."
    )


def _check_ids(examples: Sequence[Example]) -> None:
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(
                f"{example.where} repeats id {example.id!r}; ids tell rows apart. Make them unique, or set "
                "data.source.id_column=null to use row numbers."
            )
        seen.add(example.id)
