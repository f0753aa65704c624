"""Rows of Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from softcue.data.rows import TableReader, TableRow
from softcue.errors import DataError

_BATCH = 256  # rows decoded at a time
_BUFFER = 1 << 20  # bytes of a column read at a time
_DAMAGED = (pa.ArrowException, OSError, ValueError)


def parquet_reader(path: Path) -> TableReader:
    """Open Parquet; DataError if it is damaged, here or where the damage is met."""
    try:
        file = pq.ParquetFile(path, buffer_size=_BUFFER)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    return TableReader(tuple(file.schema_arrow.names), _rows(file, path), size=file.metadata.num_rows)


def _rows(file: pq.ParquetFile, path: Path) -> Iterator[TableRow]:
    number = count(1)
    try:
        for batch in file.iter_batches(batch_size=_BATCH):
            for values in batch.to_pylist():
                yield TableRow(f"{path} row {next(number)}", values)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {error}. Write the file again.")
