"""How far a run has trained: the end of its learning curve, however long that is."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

TAIL_BYTES = 8192
LOSSES = ("train/loss_step", "train/loss")


@dataclass(frozen=True, kw_only=True)
class Point:
    """The last step, its epoch counted from 0, and the last training loss that was logged."""

    epoch: int | None
    step: int
    loss: float | None


def last_point(path: Path) -> Point | None:
    """The curve's end; None where nothing is logged yet, or nowhere."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            first = file.tell()
            start = max(first, file.seek(0, io.SEEK_END) - TAIL_BYTES)
            file.seek(start)
            # The last line may be half written, and the first one half cut.
            lines = file.read().rpartition(b"\n")[0].decode().splitlines()[start > first :]
    except FileNotFoundError:
        return None
    rows = list(csv.DictReader([header.decode(), *lines]))
    if not rows:
        return None
    losses = [float(row[name]) for row in rows for name in LOSSES if row.get(name)]
    epoch = rows[-1].get("epoch")
    return Point(
        epoch=int(epoch) if epoch else None,
        step=int(rows[-1]["step"]),
        loss=losses[-1] if losses else None,
    )
