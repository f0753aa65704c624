"""CSV, TSV and JSONL line by line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import BinaryIO

from softcue.errors import DataError
from softcue.predict.lines import Lines
from softcue.predict.rows import BadRow, Columns, Place, Row, Values

SEPARATORS = {"csv": ",", "tsv": "\t"}

_NUM_LINES_FOR_KEYS = 1000  # in which a JSONL file must show its first object

Reader = Callable[[], Values | None]
"""Reads the next row, None for a blank line; raises ValueError, csv.Error or at the end StopIteration."""


class TextRows:
    """Rows of CSV, TSV or JSONL. Blank lines are no rows."""

    def __init__(self, file: BinaryIO, form: str, *, name: str, size: int | None) -> None:
        self.name, self.size = name, size
        self.num_rows = 0
        self.lines = Lines(file)
        self._read: Reader
        if form == "jsonl":
            self.columns = _first_keys(self.lines, name=name)
            self._read = lambda: _object(next(self.lines))
        else:
            # strict: a stray quote is an error on its line, not a cell that swallows the lines after it.
            reader = csv.reader(self.lines, delimiter=SEPARATORS[form], strict=True)
            self.columns = _header(reader, self.lines, name=name)
            self._read = _cell_reader(reader, self.columns)

    @property
    def done(self) -> int:
        """Bytes read."""
        return self.lines.num_bytes

    @property
    def place(self) -> Place:
        """Where the next row begins."""
        return self.lines.place(rows=self.num_rows)

    def go_on(self, place: Place) -> bool:
        """Go to a place; False if the bytes before it have changed."""
        self.num_rows = place.rows
        return self.lines.go_on(place)

    def __iter__(self) -> Iterator[Row | BadRow]:
        while True:
            values, reason, num_lines = None, None, None
            try:
                values = self._read()
            except StopIteration:
                return
            except csv.Error as error:
                # In search of a closing quote it may have taken good lines: only the first was its own.
                reason, num_lines = f"cannot be read ({error})", 1
            except ValueError as error:
                reason = str(error)
            if self.lines.undecodable:
                reason = "is not UTF-8"
            where = f"{self.name} line {self.lines.accept(num_lines)}"
            if reason is not None:
                self.num_rows += 1
                yield BadRow(where=where, reason=reason)
            elif values is not None:
                self.num_rows += 1
                yield Row(where=where, values=values)


def _header(reader: Iterator[list[str]], lines: Lines, *, name: str) -> Columns:
    try:
        columns = next(cells for cells in reader if cells)
    except (StopIteration, csv.Error) as error:
        reason = str(error) or "it is empty"
        raise DataError(f"{name} has no header ({reason}); its first line must name its columns.") from error
    if lines.undecodable:
        raise DataError(f"{name} line 1 is not UTF-8; save the file as UTF-8.")
    lines.accept()
    return tuple(columns)


def _cell_reader(reader: Iterator[list[str]], columns: Columns) -> Reader:
    def read() -> Values | None:
        cells = next(reader)
        if not cells:
            return None
        if len(cells) != len(columns):
            raise ValueError(f"has {len(cells)} cells where the header has {len(columns)}")
        return dict(zip(columns, cells, strict=True))

    return read


def _first_keys(lines: Lines, *, name: str) -> Columns:
    keys: Columns = ()
    for line in islice(lines, _NUM_LINES_FOR_KEYS):
        try:
            keys = tuple(_object(line) or ())
        except ValueError:
            continue
        if keys:
            break
    lines.accept(0)
    if not keys:
        raise DataError(
            f"{name} has no JSON object in its first {_NUM_LINES_FOR_KEYS} lines; write one a line."
        )
    return keys


def _object(line: str) -> Values | None:
    """One line's object, None for a blank line; ValueError for anything else."""
    if not line.strip():
        return None
    try:
        values = json.loads(line.strip())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})"
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"is a JSON {type(values).__name__}, not an object")
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half a character (a lone surrogate)") from error
    return values
