"""The jobs of a sweep as people read them: what each is, how far it is, how long the rest will take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softcue.runs.record import RunRecord
from softcue.runs.store import list_records
from softcue.sweep.estimate import duration, expected_seconds, method_of
from softcue.sweep.jobs import Job

FULL_TABLE = 60
"""Jobs up to which a table shows each; of more, those that are not complete, so many at most."""


def jobs_table(jobs: Sequence[Job], *, root: Path) -> Table:
    """A line a job: its number, what sets it apart, its run, how it stands, macro-F1 on test rows."""
    lines = [_line(job) for job in jobs]
    shown = lines if len(lines) <= FULL_TABLE else [line for line in lines if line[3] != "complete"]
    shown = shown[:FULL_TABLE]
    hidden = len(lines) - len(shown)
    caption = f"{hidden} more jobs are not shown" if hidden else None
    table = Table(title=Text(f"{len(jobs)} jobs · {root}"), caption=caption, box=SIMPLE_HEAD, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for heading in ("#", "job", "run", "state", "macro-F1", "seconds"):
        table.add_column(heading, justify="right" if heading in ("#", "macro-F1", "seconds") else "left")
    for line in shown:
        table.add_row(*map(Text, line))
    return table


def show(what: Table | str) -> None:
    """On standard output, as wide as it needs where that is no terminal."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    if what:
        console.print(what, crop=False, markup=False)
        console.file.flush()


def time_left(left: Sequence[Job], root: Path) -> str:
    """What the finished runs of the folder let expect of the others, one after another."""
    if not left:
        return ""
    seconds = expected_seconds(list_records(root).records)
    if not seconds:
        return f"; {len(left)} are left, and no finished run tells how long they take"
    mean = fmean(seconds.values())
    total = sum(seconds.get(method_of(job.folders[0].path.name), mean) for job in left)
    return f"; {len(left)} are left, about {duration(total)} one after another"


def _line(job: Job) -> tuple[str, str, str, str, str, str]:
    records = job.records()
    folder = job.folders[0].path.name
    run = folder if len(job.folders) == 1 else f"{folder} and {len(job.folders) - 1} more"
    scores = [record.metrics.get("test", {}).get("macro_f1") for record in records]
    score = " ".join(f"{value:.3f}" for value in scores if value is not None)
    seconds = sum(record.times.total_s for record in records if record.times)
    return (str(job.number), job.label, run, _state(job, records), score, f"{seconds:.0f}" if seconds else "")


def _state(job: Job, records: Sequence[RunRecord]) -> str:
    failed = [record.error for record in records if record.error is not None]
    if failed:
        return f"failed: {failed[0].type}: {' '.join(failed[0].message.split())}"
    if job.is_complete:
        return "complete"
    if job.is_busy:
        return "running"
    return "cut off" if records else "left"
