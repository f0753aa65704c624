"""What of a run is committed: its record and its predictions, without the rows' texts.

`python -m experiments.records FROM... TO` copies the complete runs of some folders, `python -m
experiments.records FOLDER` strips those that are there. Texts belong to others; a row's id leads back to it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq


def keep(run: Path, to: Path) -> bool:
    """Copy a complete run's record and predictions into `to`, or return False."""
    record = run / "record.json"
    if json.loads(record.read_text())["status"] != "complete":
        return False
    place = to / run.name
    place.mkdir(parents=True, exist_ok=True)
    if place != run:
        shutil.copyfile(record, place / record.name)
    for file in run.glob("predictions*.parquet"):
        _without_text(file, place / file.name)
    return True


def _without_text(source: Path, target: Path) -> None:
    table = pq.read_table(source)
    if "text" in table.column_names or source != target:
        kept = table.drop_columns([name for name in ("text",) if name in table.column_names])
        pq.write_table(kept, target, compression="zstd")


def main() -> None:
    *sources, to = map(Path, sys.argv[1:])
    for source in sources or [to]:
        runs = sorted({path.parent for path in source.glob("**/record.json")})
        print(f"{source}: {sum(keep(run, to if sources else run.parent) for run in runs)} complete runs")


if __name__ == "__main__":
    main()
