"""Failed runs, removed from folders of runs."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from softcue.errors import RunBusyError
from softcue.runs.store import RECORD, RunFolder, read_records


def remove_failed(roots: Sequence[Path]) -> list[Path]:
    """Delete the folders of failed runs below `roots`; return them. A run that a process holds now stays."""
    paths = [path for root in roots for path in sorted(root.glob(f"*/{RECORD}"))]
    listing = read_records(paths)
    removed = []
    for record, path in zip(listing.records, listing.folders, strict=True):
        if record.status == "failed":
            with suppress(RunBusyError), RunFolder(path.parent, path.name).lock(wait_s=0):
                shutil.rmtree(path)
                removed.append(path)
    return removed
