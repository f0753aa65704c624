"""A table while it is read: its rows, what is wrong with a row, and a position to resume from."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

Values = Mapping[str, object]
"""A row's values by column: text from CSV and TSV, any JSON or Parquet value from the others."""

Columns = tuple[str, ...]


class TableRow(NamedTuple):
    """One row. `where` names file and line, as in "tweets.csv line 7", or file and row if it has no lines.

    `problem` is why the row cannot be used, as in "has 2 cells where the header has 3".
    """

    where: str
    values: Values
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReadPosition:
    """The number of rows read, unusable ones included, and a digest of the columns and of these rows."""

    rows: int
    digest: str


class TableReader(Iterator[TableRow]):
    """A table that is read once and row by row.

    `columns` are the header's, or the keys of the first JSON object. `size` is the length of the table in
    the unit of `done`, None if unknown. `num_rows` counts the rows read, unusable ones included.
    """

    def __init__(
        self,
        columns: Columns,
        rows: Iterator[TableRow],
        *,
        size: int | None = None,
        done: Callable[[], int] | None = None,
    ) -> None:
        self.columns, self.size = columns, size
        self.num_rows = 0
        self._rows, self._done = rows, done
        self._hasher = hashlib.blake2b(repr(columns).encode(), digest_size=16)

    def __next__(self) -> TableRow:
        row = next(self._rows)
        self.num_rows += 1
        self._hasher.update(repr(row[1:]).encode())
        return row

    @property
    def done(self) -> int:
        """How much has been read, in bytes or in rows."""
        return self.num_rows if self._done is None else self._done()

    @property
    def position(self) -> ReadPosition:
        """The position behind the last row read."""
        return ReadPosition(rows=self.num_rows, digest=self._hasher.hexdigest())

    def resume_from(self, position: ReadPosition) -> bool:
        """Read up to a position from the beginning; False if the rows before it have changed."""
        for _ in islice(self, position.rows):
            pass
        return self.position == position


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def text_of(value: object) -> str:
    """A value as text: text as it is, null and NaN as "", all else as JSON writes it.

    So booleans are `true` and `false`, and 1 and 1.0 stay different. Dates and decimals, which only
    Parquet has, are as Python writes them.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return json_text(value) if isinstance(value, bool | list | dict) else str(value)


def json_text(value: object) -> str:
    """A value as JSON on one line."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)
