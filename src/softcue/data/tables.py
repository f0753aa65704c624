"""The one reader of tables, for training and prediction alike: CSV, TSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path

from softcue.data.csv_rows import SEPARATORS, csv_rows
from softcue.data.json_rows import json_array_rows, json_line_rows
from softcue.data.lines import Lines
from softcue.data.rows import Columns, TableReader, TableRow, repeated
from softcue.errors import ConfigError, DataError

TEXT_FORMATS = ("csv", "tsv", "json", "jsonl")
FORMATS = (*TEXT_FORMATS, "parquet")

_PIECE = 1 << 16  # characters of a JSON array read at a time
_BEFORE_JSON = codecs.BOM_UTF8 + codecs.BOM_UTF16 + b" \t\r\n\0"  # in any encoding


@dataclass(frozen=True, kw_only=True)
class LoadedTable:
    """A whole table. `columns` are all that some row has; `name` is that of its file."""

    name: str
    columns: Columns
    rows: tuple[TableRow, ...]


def read_table(path: Path, *, encoding: str = "utf-8", separator: str | None = None) -> LoadedTable:
    """Read a file of one of FORMATS, by its suffix; values stay as they are, so that nothing is guessed.

    Raises:
        DataError: there is no such file, or one of its rows cannot be read.
    """
    with open_table(str(path), encoding=encoding, separator=separator) as reader:
        rows = []
        for row in reader:
            if row.problem is not None:
                raise DataError(f"{row.where} {row.problem}. Fix the row or delete it.")
            rows.append(row)
        columns = dict.fromkeys(chain(reader.columns, chain.from_iterable(row.values for row in rows)))
    return LoadedTable(name=path.name, columns=tuple(columns), rows=tuple(rows))


@contextmanager
def open_table(
    name: str, *, stdin_format: str = "csv", encoding: str = "utf-8", separator: str | None = None
) -> Iterator[TableReader]:
    """Open a file of one of FORMATS, by its suffix, or by the name "-" stdin in one of TEXT_FORMATS.

    `separator` is a name of SEPARATORS or any one character; None is that of the header for CSV, a tab for
    TSV. `encoding` is Python's name for that of text formats.

    Raises:
        DataError: there is no such file, it shows no columns, or two of one name.
        ConfigError: the suffix, encoding or separator is unknown.
    """
    form = stdin_format if name == "-" else table_format(name)
    path = None if name == "-" else Path(name)
    if path is not None and not path.is_file():
        raise DataError(f"{name} is not there; check the path and the folder you run from ({Path.cwd()}).")
    if path is not None and form == "parquet":
        from softcue.data.parquet_rows import parquet_reader  # imports pyarrow, which no other table needs

        yield _checked(parquet_reader(path), name=name)
        return
    with _opened(path) as file:
        reader = _text_reader(file, form=form, path=path, encoding=encoding, separator=separator)
        yield _checked(reader, name=name)


def table_format(name: str, *, known: Sequence[str] = FORMATS) -> str:
    """A file's format by its suffix, in capitals or not."""
    form = Path(name).suffix.removeprefix(".").lower()
    if form not in known:
        suffixes = ", ".join(f".{suffix}" for suffix in known)
        raise ConfigError(f"{name} should end in one of {suffixes}; convert or rename it.")
    return form


def _opened(path: Path | None) -> BufferedReader:
    if path is None:
        return open(0, "rb", closefd=False)
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); check who may read it.") from error


def _text_reader(
    file: BufferedReader, *, form: str, path: Path | None, encoding: str, separator: str | None
) -> TableReader:
    is_array = form == "json" and file.peek(1).lstrip(_BEFORE_JSON).startswith(b"[")
    name, size = ("stdin", None) if path is None else (str(path), path.stat().st_size)
    lines = Lines(file, name=name, encoding=encoding, piece=_PIECE if is_array else None)
    if form in ("csv", "tsv"):
        default = "\t" if form == "tsv" else None
        columns, rows = csv_rows(lines, separator=_character(separator) or default)
    else:
        columns, rows = json_array_rows(lines) if is_array else json_line_rows(lines)
    return TableReader(columns, rows, size=size, done=lambda: lines.num_bytes)


def _character(separator: str | None) -> str | None:
    character = SEPARATORS.get(separator or "", separator)
    if character is not None and (len(character) != 1 or character in '"\r\n'):
        raise ConfigError(
            f"separator is {separator!r}; name {', '.join(SEPARATORS)} or one other character, or null to "
            "take that of the header."
        )
    return character


def _checked(reader: TableReader, *, name: str) -> TableReader:
    if (column := repeated(reader.columns)) is not None:
        raise DataError(f"{name} has several columns {column!r}; rename all but one.")
    return reader
