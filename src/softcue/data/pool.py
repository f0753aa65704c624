"""All rows of a task, checked once in one place whatever source they came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

import datasets
import pandas as pd

from softcue.data import template
from softcue.data.task import Task
from softcue.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All rows of a task, in datasets of "id", the template's columns and "label", all strings.

    `labelled` rows are free to split; `held_out` are labelled rows that the source itself sets aside
    for testing; `unlabelled` rows have no "label". `fingerprint` is 16 hex digits over all content.
    """

    labelled: datasets.Dataset
    held_out: datasets.Dataset | None
    unlabelled: datasets.Dataset
    fingerprint: str


class Source(Protocol):
    """Where rows come from."""

    def load(self, task: Task) -> Pool:
        """All rows of the task; raises a DataError or TemplateError for rows that cannot be used."""


def pick_columns(
    frame: pd.DataFrame, task: Task, *, id_column: str | None, label_column: str | None, where: str
) -> pd.DataFrame:
    """A table's rows as strings, numbered from 1 up: "id", the task's columns and "label" ("" for none)."""
    for key, name in (("id_column", id_column), ("label_column", label_column)):
        if name is not None and name not in frame.columns:
            raise DataError(
                f"data.source.{key} is {name!r}; {where} has {sorted(frame.columns)}. Name one of these."
            )
    parsed = template.parse(task.template, key=template.TASK_KEY)
    parsed.check_columns(list(frame.columns), where=where)
    rows = pd.DataFrame(index=range(1, len(frame) + 1), dtype=object)
    rows["id"] = [f"{where}:{row}" for row in rows.index] if id_column is None else _strings(frame[id_column])
    for name in task.columns:
        rows[name] = _strings(frame[name])
    rows["label"] = "" if label_column is None else _strings(frame[label_column])
    return rows


def make_pool(
    task: Task, *, labelled: pd.DataFrame, held_out: pd.DataFrame | None, unlabelled: pd.DataFrame, where: str
) -> Pool:
    """Check picked rows and freeze them; row numbers in errors are the frames' indices, from 1 up."""
    for frame in (labelled, held_out):
        if frame is not None:
            _check_labels(frame, task, where=where)
            _check_texts(frame, task, where=where)
            _check_ids(frame, where=where)
    _check_ids(unlabelled, where=where)
    if labelled.empty:
        raise DataError(f"{where} has no labelled row; training needs some. Fill the label column.")
    unlabelled = unlabelled.drop(columns="label")
    return Pool(
        labelled=_dataset(labelled),
        held_out=None if held_out is None else _dataset(held_out),
        unlabelled=_dataset(unlabelled),
        fingerprint=_fingerprint(labelled, held_out, unlabelled),
    )


def dataset_digest(dataset: datasets.Dataset) -> str:
    """SHA-256 over column names and values: the same in every process."""
    return _digest(dataset.to_dict())


def _strings(column: pd.Series[Any]) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]


def _dataset(frame: pd.DataFrame) -> datasets.Dataset:
    features = datasets.Features({name: datasets.Value("string") for name in frame.columns})
    return datasets.Dataset.from_dict(frame.to_dict(orient="list"), features=features)


def _fingerprint(*frames: pd.DataFrame | None) -> str:
    return _digest([None if frame is None else frame.to_dict(orient="list") for frame in frames])[:16]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_labels(frame: pd.DataFrame, task: Task, *, where: str) -> None:
    for row, label in frame["label"].items():
        if label not in task.classes:
            raise DataError(
                f"{where} row {row} has label {label!r}; data.task.classes are {list(task.classes)}. "
                "Mend the label, or add the class."
            )


def _check_texts(frame: pd.DataFrame, task: Task, *, where: str) -> None:
    for row, texts in zip(frame.index, frame[list(task.columns)].itertuples(index=False), strict=True):
        if not any(text.strip() for text in texts):
            raise DataError(
                f"{where} row {row} has a label but no text in {list(task.columns)}. Fill or drop the row."
            )


def _check_ids(frame: pd.DataFrame, *, where: str) -> None:
    repeated = frame["id"][frame["id"].duplicated()]
    if not repeated.empty:
        raise DataError(
            f"{where} row {repeated.index[0]} repeats id {repeated.iloc[0]!r}; ids tell rows apart. "
            "Make them unique, or set data.source.id_column=null to use row numbers."
        )
