"""How far a run has trained: the end of its learning curve, read without the rest of the file."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 8192
LOSSES = ("train/loss_step", "train/loss")


@dataclass(frozen=True, kw_only=True)
class Point:
    """The last step, its epoch (from 0), and the last training loss logged; None without one."""

    epoch: int | None = None
    step: int | None = None
    loss: float | None = None


def last_point(path: Path) -> Point:
    """The last point of a curve, whose file may be missing, damaged or without a row yet."""
    try:
        return _last_point(path)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return Point()


def _last_point(path: Path) -> Point:
    with path.open("rb") as file:
        header = file.readline()
        first = file.tell()
        start = max(first, file.seek(0, io.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        # The last line may be incomplete, and the first may begin in the middle.
        lines = file.read().rpartition(b"\n")[0].decode().splitlines()[start > first :]
    rows = list(csv.DictReader([header.decode(), *lines]))
    if not rows:
        return Point()
    losses = [float(row[name]) for row in rows for name in LOSSES if row.get(name)]
    epoch = rows[-1].get("epoch")
    return Point(
        epoch=int(epoch) if epoch else None,
        step=int(rows[-1]["step"]),
        loss=losses[-1] if losses else None,
    )
