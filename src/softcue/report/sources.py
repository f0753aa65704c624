"""Where a report's records come from: folders of runs, or single runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import RunError, listed
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD, read_records


@dataclass(frozen=True, kw_only=True)
class Source:
    """A record and its folder."""

    record: RunRecord
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Found:
    """The complete runs under some folders, and a line for each record that is left out."""

    sources: tuple[Source, ...]
    notes: tuple[str, ...]


def find_runs(roots: Sequence[Path]) -> Found:
    """Read `record.json` of each root and of the folders in it; a run that is there twice counts once."""
    paths = [path for root in roots for path in (root / RECORD, *sorted(root.glob(f"*/{RECORD}")))]
    listing = read_records(path for path in dict.fromkeys(paths) if path.is_file())
    complete: dict[str, Source] = {}
    notes = []
    for record, folder in zip(listing.records, listing.folders, strict=True):
        if record.status != "complete":
            notes.append(unfinished(record))
        elif record.run_id in complete:
            notes.append(f"there twice: {folder} is the run of {complete[record.run_id].folder}")
        else:
            complete[record.run_id] = Source(record=record, folder=folder)
    notes += [f"unreadable: {problem}" for problem in listing.problems]
    return Found(sources=tuple(complete.values()), notes=tuple(notes))


def unfinished(record: RunRecord) -> str:
    """A line for a run that failed, with its error, or has not ended."""
    name = f"{record.method}, seed {record.seed} ({record.run_id})"
    if record.error is not None:
        return f"failed: {name}: {record.error.line}"
    return f"{record.status}: {name}, started {record.started_at}"


def nothing_found(roots: Sequence[Path], notes: Sequence[str]) -> RunError:
    """The error for a report without a complete run: where it looked, and where there are some."""
    looked = ", ".join(map(str, roots))
    if notes:
        return RunError(f"no run under {looked} is complete. " + "; ".join(notes))
    below = sorted({str(path.parents[1]) for root in roots for path in root.glob(f"*/*/{RECORD}")})
    if below:
        return RunError(
            f"no run records under {looked}, but under {listed(below)}: give one, as in runs={below[0]}."
        )
    return RunError(
        f"no run records under {looked}: looked for {RECORD} there and one folder below. Give the folder "
        "that holds the runs' folders, as in runs=runs/demo."
    )
