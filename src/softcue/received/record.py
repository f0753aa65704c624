"""The record of a received folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from softcue.errors import RunError
from softcue.formats.folder import recover_folder
from softcue.formats.plain import read_small
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD

DTYPES = ("float32", "bfloat16", "float16", "float64")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def complete_record(path: Path) -> RunRecord:
    """The record of a complete run of a prompt; RunError for any other folder."""
    if not path.exists():
        recover_folder(path)
    if not (path / RECORD).exists():
        raise RunError(
            f"{path} holds no record.json; give the folder of a run, such as runs/p_tuning-0123456789ab, or "
            "one that softcue-export wrote."
        )
    try:
        record = RunRecord.from_json(read_small(path / RECORD))
    except RunError as error:
        raise RunError(f"{path / RECORD} cannot be read: {error}. Copy the folder again.") from error
    _check_names(record, str(path / RECORD))
    if record.status != "complete":
        raise RunError(
            f"{path} is {record.status}, not complete; start its softcue-train command again to complete it."
        )
    if record.backbone is None:
        raise RunError(f"{path} is a run of {record.method}, which reads no prompt; give a prompt's run.")
    return record


def expect_plain(value: object, at: str) -> None:
    """Refuse a text with control characters, such as a terminal's escape sequences."""
    if isinstance(value, str) and _CONTROL.search(value):
        raise RunError(f"{at} is {value!r:.120}, which has control characters; copy the folder again.")


def _check_names(record: RunRecord, at: str) -> None:
    """Refuse names that could not be printed or put into a card as they are."""
    for key, value in asdict(record).items():
        if key not in ("settings", "error"):
            for text in _texts(value):
                expect_plain(text, f"{at} {key}")
    if record.dtype not in (None, *DTYPES):
        raise RunError(f"{at} dtype is {record.dtype!r:.120}, not one of {DTYPES}; copy the folder again.")
    if "softcue" not in record.versions:
        raise RunError(f"{at} versions lacks 'softcue'; copy the folder again.")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
