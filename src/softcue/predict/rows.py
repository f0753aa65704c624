"""What a table is while it is read: rows, bad rows, and a place to go on from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

Values = dict[str, object]
"""A row's values by column."""

Columns = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a table was read, and a digest of what was read until there.

    `rows` counts bad ones too. Of Parquet, `lines` and `bytes` are 0 and the digest is the whole file's.
    """

    rows: int
    lines: int
    bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row's values by column; `where` is the line on which it starts, as in "tweets.csv line 7"."""

    where: str
    values: Values


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be used, and why."""

    where: str
    reason: str


class Rows(Protocol):
    """A table that is read once, from its beginning or from a place in it.

    `columns` are the header's, or for JSONL the first object's keys. `size` is in bytes, for Parquet
    in rows, and None for stdin. `num_rows` counts those read, bad ones too.
    """

    columns: Columns
    size: int | None
    num_rows: int

    def __iter__(self) -> Iterator[Row | BadRow]:
        """The rows that are left."""

    @property
    def done(self) -> int:
        """How much was read, in the unit of `size`."""

    @property
    def place(self) -> Place:
        """Where the next row begins."""

    def go_on(self, place: Place) -> bool:
        """Go to a place; False if what is before it has changed."""
