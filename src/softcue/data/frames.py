"""Tables in memory: Arrow, pandas and other frames, with class names in place of the hub's class numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa

from softcue.data.rows import TableRow
from softcue.data.tables import LoadedTable
from softcue.errors import DataError

Frame = Any
"""A pandas or polars frame, an Arrow table, a datasets.Dataset, a mapping of columns, or a list of rows."""


def arrow_table(frame: Frame) -> pa.Table:
    """A frame as an Arrow table, without the index of pandas.

    Raises:
        DataError: it is none of what `Frame` names.
    """
    if isinstance(frame, datasets.Dataset):
        frame = frame.with_format("arrow")[:]
    try:
        if isinstance(frame, Sequence) and not isinstance(frame, str):
            return pa.Table.from_pylist([dict(row) for row in frame])
        table = pa.table(dict(frame) if isinstance(frame, Mapping) else frame)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"a {type(frame).__name__} cannot be read as a table ({error}); give a file's path, a pandas or "
            "polars frame, an Arrow table, a datasets.Dataset, a mapping of columns or a list of rows."
        ) from error
    return table.select([name for name in table.column_names if not name.startswith("__index_level_")])


def loaded_table(table: pa.Table, *, name: str) -> LoadedTable:
    """The rows of an Arrow table; `name` is that of errors."""
    named = class_names(table)
    return LoadedTable(
        name=name,
        columns=tuple(table.column_names),
        rows=tuple(
            TableRow(
                f"{name} row {number}", {**row, **{at: names.get(row[at]) for at, names in named.items()}}
            )
            for number, row in enumerate(table.to_pylist(), start=1)
        ),
    )


def class_names(table: pa.Table) -> dict[str, dict[Any, str]]:
    """For each column of class numbers, as `datasets` writes them, the name of each number."""
    if b"huggingface" not in (table.schema.metadata or {}):
        return {}
    features = datasets.Features.from_arrow_schema(table.schema)
    return {
        name: dict(enumerate(feature.names))
        for name, feature in features.items()
        if isinstance(feature, datasets.ClassLabel)
    }
