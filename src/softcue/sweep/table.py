"""The table of a sweep's jobs, and how a sweep prints."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softcue.runs.metrics import METRICS, Metric
from softcue.sweep.state import JobState
from softcue.tables.render import terminal
from softcue.tables.table import Column, Table, duration, number

FULL_TABLE = 60
"""Up to so many jobs, a table shows all; of more, only as many that are not complete."""
SHOWN = (METRICS["macro_f1"], METRICS["rougeL"])
"""The metric of jobs on classes, and that of jobs on texts."""

Numbered = tuple[int, JobState]


def jobs_table(jobs: Sequence[JobState], *, root: Path) -> Table[Numbered]:
    """A row for each job: its number, label, run and state, the metric on test rows, and its time."""
    rows = list(enumerate(jobs))
    if len(rows) > FULL_TABLE:
        rows = [row for row in rows if row[1].state != "complete"][:FULL_TABLE]
    hidden = len(jobs) - len(rows)
    caption = f"{hidden} more jobs are not shown" if hidden else ""
    return Table(title=f"{len(jobs)} jobs · {root}", columns=_columns(jobs), rows=rows, caption=caption)


def _columns(jobs: Sequence[JobState]) -> list[Column[Numbered]]:
    metric = next((one for one in SHOWN if any(_scores(job, one) for job in jobs)), SHOWN[0])
    return [
        number("#", lambda row: row[0]),
        Column("job", lambda row: row[1].label),
        Column("run", lambda row: _runs(row[1])),
        Column("state", lambda row: _state(row[1])),
        number(metric.title, lambda row: _scores(row[1], metric)),
        number("time", lambda row: _seconds(row[1]), duration),
    ]


def print_table(table: Table[Any]) -> None:
    """Print to standard output, at most as wide as the terminal unless a number would be cut."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 200
    print(terminal([table], (), width), flush=True)


def _runs(job: JobState) -> str:
    return job.first_run_id + (f" and {len(job.runs) - 1} more" if len(job.runs) > 1 else "")


def _state(job: JobState) -> str:
    return f"{job.state}: {job.error}" if job.error else job.state


def _scores(job: JobState, metric: Metric) -> str | None:
    values = [record.metric("test", metric.name) for record in job.records]
    return " ".join(metric.text(value) for value in values if value is not None) or None


def _seconds(job: JobState) -> float | None:
    return sum(record.times.total_s for record in job.records if record.times) or None
