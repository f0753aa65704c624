"""Rows of JSON: one object a line, or an array of objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain, islice

from softcue.data.lines import MAX_TEXT, Lines, line_rows
from softcue.data.rows import Columns, TableRow, Values, json_text, repeated
from softcue.errors import DataError

_NUM_ROWS_FOR_KEYS = 1000  # within which a table must show its first object

_BETWEEN_ITEMS = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")


def json_line_rows(lines: Lines) -> tuple[Columns, Iterator[TableRow]]:
    """The first object's keys, and a row for each line."""
    return _with_keys(line_rows(lines, lambda: _object(next(lines))), name=lines.name)


def json_array_rows(lines: Lines) -> tuple[Columns, Iterator[TableRow]]:
    """The first object's keys, and a row for each item of the array that the lines make up."""
    return _with_keys(_item_rows(lines), name=lines.name)


def _with_keys(rows: Iterator[TableRow], *, name: str) -> tuple[Columns, Iterator[TableRow]]:
    begun: list[TableRow] = []
    for row in islice(rows, _NUM_ROWS_FOR_KEYS):
        begun.append(row)
        if row.values:
            return tuple(row.values), chain(begun, rows)
    raise DataError(f"{name} has no JSON object in its first {_NUM_ROWS_FOR_KEYS} rows; write one a line.")


def _item_rows(lines: Lines) -> Iterator[TableRow]:
    """Parse one item after the other, so that no more than MAX_TEXT is held of a broken one."""
    text, at, number = _piece(lines), 0, 1
    while not text.strip():
        text = _piece(lines)
    text = text.lstrip().removeprefix("[")
    while not text.startswith("]", at := _after_comma(text, at)):
        where = f"{lines.name} row {number}"
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError as error:
            piece = _piece(lines)
            if not piece or len(text) - at > MAX_TEXT:
                raise DataError(f"{where} and what follows cannot be read ({error.msg}); fix it.") from error
            text, at = text[at:] + piece, 0
            continue
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} and what follows cannot be read ({error}); fix it.") from error
        yield _item(where, value)
        number += 1
    rest = text[at + 1 :]
    while not rest.strip():
        if not (rest := _piece(lines)):
            return
    raise DataError(f"{lines.name} has text behind its array; write one array, or one object a line.")


def _after_comma(text: str, at: int) -> int:
    between = _BETWEEN_ITEMS.match(text, at)
    assert between is not None, "it matches the empty string"
    return between.end()


def _piece(lines: Lines) -> str:
    piece = next(lines, "")
    if problem := lines.accept():
        raise DataError(f"{lines.name} {problem}.")
    return piece


def _item(where: str, value: object) -> TableRow:
    try:
        return TableRow(where, _checked(value))
    except ValueError as error:
        return TableRow(where, {}, str(error))


def _object(line: str) -> Values | None:
    if not line.strip():
        return None
    try:
        return _checked(_DECODER.decode(line.strip()))
    except json.JSONDecodeError as error:
        reason = error.msg.removesuffix(" at")
        raise ValueError(f"is not JSON ({reason} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


def _checked(value: object) -> Values:
    """A parsed JSON value if it is an object that can be written again; ValueError if not."""
    if not isinstance(value, dict):
        raise ValueError(f"is a JSON {type(value).__name__}, not an object")
    try:
        # Written inside more levels than any writer adds, so that no depth is read that cannot be written.
        json_text([[[[[[[[value]]]]]]]]).encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half a character (a lone surrogate)") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return value


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"has several values for {repeated(key for key, _ in pairs)!r}")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)
