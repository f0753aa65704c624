"""A run's learning curve, `metrics.csv`, as its writer and the reports read it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from softcue.errors import RunError

CURVE = "metrics.csv"

CurveRow = dict[str, str]
"""A row's numbers by column; empty cells are absent."""


def read_curve(path: Path) -> list[CurveRow]:
    """The rows of a curve, without a last one that was not written completely.

    Raises:
        RunError: the file cannot be read or is damaged.
    """
    try:
        return _rows(path.read_bytes())
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} is damaged ({error})") from error


def _rows(content: bytes) -> list[CurveRow]:
    whole = io.StringIO(content.rpartition(b"\n")[0].decode())
    columns, *rows = csv.reader(whole, strict=True) if whole.getvalue() else [[]]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ValueError(f"line {number} has {len(row)} cells where the header has {len(columns)}")
        for cell in filter(None, row):
            float(cell)
        int(row[columns.index("step")])
    return [{name: value for name, value in zip(columns, row, strict=True) if value} for row in rows]
