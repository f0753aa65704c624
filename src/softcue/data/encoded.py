"""Encoded rows, and the file that keeps them for the next run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from softcue.errors import RunError
from softcue.runs.atomic import unwritable, write_atomic
from softcue.runs.sealed import read_sealed, sealed, set_aside

_SCHEMA = pa.schema({"ids": pa.list_(pa.int32()), "was_cut": pa.bool_()})

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """A row's ids without its label, and whether its text was cut."""

    ids: list[int]
    was_cut: bool


def read_encoded(path: Path) -> list[EncodedRow] | None:
    """The rows that `write_encoded` wrote; None if there are none. A damaged file is set aside."""
    if not path.exists():
        return None
    try:
        content = read_sealed(path)
    except RunError as error:
        log.warning("%s. It is now %s, and the rows are encoded again.", error, set_aside(path).name)
        return None
    rows = pa.ipc.open_stream(content).read_all().to_pylist()
    return [EncodedRow(ids=row["ids"], was_cut=row["was_cut"]) for row in rows]


def write_encoded(path: Path, rows: Sequence[EncodedRow]) -> None:
    """Keep the rows; where that is impossible they are encoded again next time, after a warning."""
    content = pa.BufferOutputStream()
    values = {"ids": [row.ids for row in rows], "was_cut": [row.was_cut for row in rows]}
    with pa.ipc.new_stream(content, _SCHEMA) as stream:
        stream.write_table(pa.table(values, schema=_SCHEMA))
    try:
        _make_folder(path.parent)
        write_atomic(path, sealed(content.getvalue().to_pybytes()))
    except RunError as error:
        log.warning("encoded rows are not kept: %s", error)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
