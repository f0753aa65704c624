"""Rows of CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress

from softcue.data.lines import MAX_TEXT, Lines, line_rows
from softcue.data.rows import Columns, TableRow, Values
from softcue.errors import DataError

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t"}


def csv_rows(lines: Lines, *, separator: str | None) -> tuple[Columns, Iterator[TableRow]]:
    """Columns and rows of CSV; without a `separator`, it is the one that the header uses."""
    csv.field_size_limit(MAX_TEXT)
    records = _records(lines, separator or _sniffed(lines))
    try:
        columns = tuple(next(filter(None, records)))
    except (StopIteration, csv.Error) as error:
        reason = str(error) or "it is empty"
        raise DataError(f"{lines.name} has no header ({reason}); name the columns there.") from error
    if problem := lines.accept():
        raise DataError(f"{lines.name} line 1 {problem}.")
    return columns, line_rows(lines, lambda: _cells(next(records), columns))


def _records(lines: Lines, separator: str) -> Iterator[list[str]]:
    # strict: a stray quote is an error on its line, not a cell that takes in the lines after it.
    return csv.reader(lines, delimiter=separator, strict=True)


def _sniffed(lines: Lines) -> str:
    """The separator that cuts the header into the most columns; the first of these."""
    widths = {}
    for separator in SEPARATORS.values():
        with suppress(csv.Error):
            widths[separator] = len(next(filter(None, _records(lines, separator)), []))
        lines.accept(0)
    return max(widths, key=lambda separator: widths[separator], default=",")


def _cells(cells: list[str], columns: Columns) -> Values | None:
    if cells and len(cells) != len(columns):
        raise ValueError(f"has {len(cells)} cells where the header has {len(columns)}")
    return dict(zip(columns, cells, strict=True)) if cells else None
