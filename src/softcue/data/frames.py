"""Tables in memory: Arrow, pandas and other frames, with class names in place of the hub's class numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from softcue.data.rows import TableRow
from softcue.data.tables import LoadedTable
from softcue.errors import DataError
from softcue.runs.atomic import write_atomic

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
    named = _with_class_names(table)
    return named.select([name for name in named.column_names if not name.startswith("__index_level_")])


def keep(table: pa.Table, *, cache: Path) -> Path:
    """Write a table below the cache folder, under a name that its content determines, for runs to read.

    Raises:
        RunError: it cannot be written.
    """
    sink = pa.BufferOutputStream()
    # Through plain values, so that the same rows have the same digest whatever library held them.
    pq.write_table(pa.Table.from_pylist(table.to_pylist()), sink)
    content = sink.getvalue().to_pybytes()
    path = cache / "frames" / hashlib.sha256(content).hexdigest()[:16] / "table.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    return path


def loaded_table(table: pa.Table, *, name: str) -> LoadedTable:
    """The rows of an Arrow table; `name` is that of errors."""
    rows = _with_class_names(table).to_pylist()
    return LoadedTable(
        name=name,
        columns=tuple(table.column_names),
        rows=tuple(TableRow(f"{name} row {at}", row) for at, row in enumerate(rows, start=1)),
    )


def _with_class_names(table: pa.Table) -> pa.Table:
    """The table with names in place of class numbers, as `datasets` writes them, and null for none."""
    if b"huggingface" not in (table.schema.metadata or {}):
        return table
    for name, feature in datasets.Features.from_arrow_schema(table.schema).items():
        if isinstance(feature, datasets.ClassLabel):
            names = dict(enumerate(feature.names))
            column = pa.array([names.get(number) for number in table[name].to_pylist()], pa.string())
            table = table.set_column(table.column_names.index(name), name, column)
    return table.replace_schema_metadata(None)
