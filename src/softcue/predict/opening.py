"""A file or stdin, opened as the rows it holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softcue.errors import DataError
from softcue.predict.parquet import ParquetRows
from softcue.predict.rows import Rows
from softcue.predict.text import SEPARATORS, TextRows

TEXT_FORMATS = (*SEPARATORS, "jsonl")
INPUT_FORMATS = (*TEXT_FORMATS, "parquet")


@contextmanager
def open_rows(name: str, form: str) -> Iterator[Rows]:
    """Open a file of one of INPUT_FORMATS, or stdin by the name "-".

    Raises:
        DataError: there is no such file, it shows no columns, or two of one name.
    """
    path = Path(name)
    if name == "-":
        yield _unique(TextRows(sys.stdin.buffer, form, name="stdin", size=None), name="stdin")
    elif not path.is_file():
        raise DataError(f"{path} is not there; check input and the folder you run from.")
    elif form == "parquet":
        yield _unique(ParquetRows(path), name=name)
    else:
        with path.open("rb") as file:
            yield _unique(TextRows(file, form, name=name, size=path.stat().st_size), name=name)


def _unique(rows: Rows, *, name: str) -> Rows:
    repeated = [column for column in rows.columns if rows.columns.count(column) > 1]
    if repeated:
        raise DataError(f"{name} has several columns {repeated[0]!r}; rename all but one.")
    return rows
