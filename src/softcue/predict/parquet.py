"""Parquet batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from softcue.errors import DataError
from softcue.predict.rows import BadRow, Columns, Place, Row

_BATCH = 256  # rows decoded at a time
_BUFFER = 1 << 20  # bytes of a column read at a time


class ParquetRows:
    """Rows of Parquet, numbered from 1 up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = pq.ParquetFile(path, buffer_size=_BUFFER)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path} cannot be read as Parquet: {error}. Write it anew.") from error
        self.columns: Columns = tuple(self.file.schema_arrow.names)
        self.size: int | None = self.file.metadata.num_rows
        self.num_rows = 0

    @property
    def done(self) -> int:
        """Rows read."""
        return self.num_rows

    @cached_property
    def digest(self) -> str:
        """Of the whole file, which has no part that could be compared alone."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()

    @property
    def place(self) -> Place:
        """Where the next row begins."""
        return Place(rows=self.num_rows, lines=0, bytes=0, digest=self.digest)

    def go_on(self, place: Place) -> bool:
        """Go to a place; False if the file has changed."""
        self.num_rows = place.rows
        return self.digest == place.digest

    def __iter__(self) -> Iterator[Row | BadRow]:
        groups, behind = self._groups_left()
        for batch in self.file.iter_batches(batch_size=_BATCH, row_groups=groups):
            for values in batch.slice(min(behind, batch.num_rows)).to_pylist():
                self.num_rows += 1
                yield Row(where=f"{self.path} row {self.num_rows}", values=values)
            behind = max(behind - batch.num_rows, 0)

    def _groups_left(self) -> tuple[list[int], int]:
        """The row groups that are left, and how many rows of the first are done."""
        behind = self.num_rows
        for group in range(self.file.num_row_groups):
            num_rows = self.file.metadata.row_group(group).num_rows
            if behind < num_rows:
                return list(range(group, self.file.num_row_groups)), behind
            behind -= num_rows
        return [], 0
