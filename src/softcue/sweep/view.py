"""A snapshot of a sweep for the terminal; lines are never wrapped, and long ones end in an ellipsis."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from rich import table as rich_table
from rich.console import Group, RenderableType
from rich.text import Text

from softcue.runs.metrics import Metric
from softcue.sweep.curve import Point, last_point
from softcue.sweep.state import STATES, JobState, State, SweepSnapshot
from softcue.sweep.summary import Best, best_of_methods, seconds_elapsed, seconds_since, time_left
from softcue.tables.table import CONTROLS, Column, Table, duration, mean_and_deviation, number

BARS: dict[State, tuple[str, str]] = {
    "complete": ("█", "green"),
    "failed": ("×", "red"),
    "pruned": ("▪", "blue"),
    "running": ("▓", "yellow"),
    "interrupted": ("▒", "magenta"),
    "pending": ("░", "bright_black"),
}
OTHER_LINES = 19
"""Lines of a view that are not rows of its three tables."""
PAGE = 40
"""Rows of the three tables together if no terminal limits them."""
PAGE_FILE = "report.html"
"""The page of the comparison, in the sweep's folder."""


def view(
    snapshot: SweepSnapshot,
    *,
    now: datetime,
    part: str,
    metric: Metric,
    width: int,
    height: int | None = None,
) -> RenderableType:
    """The whole view, `width` columns wide, at most `height` lines high if given."""
    jobs = short_labels(snapshot.jobs)
    tables: tuple[Table[Any], ...] = (
        best_table(jobs, part=part, metric=metric),
        running_table(jobs, now=now),
        failures_table(jobs),
    )
    limit = PAGE if height is None else max(3, height - OTHER_LINES)
    shown = allocate_rows([len(table.rows) for table in tables], limit)
    complete = any(record.status == "complete" for record in snapshot.records)
    nothing = ["", f"no complete run has {part} {metric.name}"] if complete and not tables[0].rows else []
    sections = (_section(table, rows) for table, rows in zip(tables, shown, strict=True))
    return Group(
        *_head(snapshot, now=now, width=width),
        *nothing,
        *(line for lines in sections for line in lines),
        *(_page(snapshot) if complete and snapshot.has_ended else ()),
    )


def _page(snapshot: SweepSnapshot) -> list[RenderableType]:
    """Where the page of an ended sweep is, or the command that writes it."""
    path = snapshot.root / PAGE_FILE
    if path.is_file() and path.stat().st_mtime >= snapshot.changed:
        words = str(path)
    else:
        words = shlex.join(["softcue-report", f"runs={snapshot.root}", f"page={path}"])
    # Whole, even on two lines: it is there to be copied.
    return ["", Text(f"the comparison as a page: {words}".translate(CONTROLS), overflow="fold")]


def short_labels(jobs: Sequence[JobState]) -> list[JobState]:
    """The jobs, labelled without the settings that all of them share."""
    words = [job.label.split() for job in jobs]
    shared = set.intersection(*map(set, words)) if len(words) > 1 else set()
    # A word of a quoted text is not a setting.
    shared = {word for word in shared if "=" in word and "'" not in word and '"' not in word}
    return [
        replace(job, label=" ".join(word for word in of_job if word not in shared) or job.first_run_id)
        for job, of_job in zip(jobs, words, strict=True)
    ]


def allocate_rows(wanted: Sequence[int], limit: int) -> list[int]:
    """How many rows each table gets: all it wants if `limit` allows, else rows dealt out in turn."""
    given = [0] * len(wanted)
    while limit > 0 and given != list(wanted):
        for at, most in enumerate(wanted):
            if given[at] < most and limit > 0:
                given[at], limit = given[at] + 1, limit - 1
    return given


def best_table(jobs: Sequence[JobState], *, part: str, metric: Metric) -> Table[Best]:
    """Each method's best run and its mean, the best method first."""
    columns: list[Column[Best]] = [
        Column(f"best by {part} {metric.name}", lambda best: best.method),
        number("best", lambda best: best.value, metric.text),
        number("mean", lambda best: best.mean, mean_and_deviation(metric.text)),
        Column("its job", lambda best: best.job.label),
    ]
    return Table(columns=columns, rows=best_of_methods(jobs, part=part, metric=metric))


def running_table(jobs: Sequence[JobState], *, now: datetime) -> Table[tuple[JobState, Point]]:
    """How long each running job has been running, and how far it has trained."""
    columns: list[Column[tuple[JobState, Point]]] = [
        Column("running", lambda row: row[0].label),
        number("for", lambda row: seconds_since(row[0].records, now=now), duration),
        number("epoch", lambda row: _epoch(*row)),
        number("step", lambda row: row[1].step),
        number("loss", lambda row: row[1].loss, "{:.3f}".format),
    ]
    rows = [(job, _trained_to(job)) for job in jobs if job.state == "running"]
    return Table(columns=columns, rows=rows)


def failures_table(jobs: Sequence[JobState]) -> Table[JobState]:
    """The errors, the last first."""
    columns: list[Column[JobState]] = [
        Column("last failures", lambda job: job.label),
        Column("error", lambda job: job.error),
    ]
    failed = [job for job in jobs if job.error]
    failed.sort(key=lambda job: max(run.stamp[0] for run in job.runs), reverse=True)
    return Table(columns=columns, rows=failed)


def _trained_to(job: JobState) -> Point:
    """The end of the learning curve of the job's first running run."""
    run = next(run for run in job.runs if run.state == "running")
    return last_point(run.folder.path / "metrics.csv")


def _epoch(job: JobState, point: Point) -> str | None:
    if point.epoch is None:
        return None
    epochs = job.records[0].settings.get("trainer", {}).get("max_epochs") or 0
    return f"{point.epoch + 1}/{epochs}" if epochs > 0 else str(point.epoch + 1)


def _section(table: Table[Any], shown: int) -> list[RenderableType]:
    """The first rows of a table, one line each; nothing without rows. Numbers are never cut."""
    if not table.rows:
        return []
    drawn = rich_table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        drawn.add_column(column.heading, justify=column.align, no_wrap=column.align == "right")
    for row in table.rows[:shown]:
        drawn.add_row(*(_one_line(Text(column.cell(row))) for column in table.columns))
    hidden = len(table.rows) - shown
    return ["", drawn, *([Text(f"and {hidden} more", style="bright_black")] if hidden else [])]


def _head(snapshot: SweepSnapshot, *, now: datetime, width: int) -> list[RenderableType]:
    counts = Counter(job.state for job in snapshot.jobs)
    # Only softcue-train writes plans.
    command = snapshot.note or f"softcue-train {shlex.join(snapshot.command)}"
    lines = [
        Text(str(snapshot.root), style="bold"),
        Text(command.translate(CONTROLS), style="yellow" if snapshot.note else "dim"),
        _bar(counts, width=width),
        _counts(counts),
        _times(snapshot, counts, now=now),
    ]
    return [_one_line(line) for line in lines]


def _bar(counts: Counter[State], *, width: int) -> Text:
    """A bar in which each state has its share of the width, at least one column."""
    total = max(1, sum(counts.values()))
    columns = {state: max(1, round(width * counts[state] / total)) for state in STATES if counts[state]}
    if columns:
        # The largest state absorbs the rounding errors.
        largest = max(columns, key=lambda state: columns[state])
        columns[largest] += width - sum(columns.values())
    return Text.assemble(*((BARS[state][0] * num, BARS[state][1]) for state, num in columns.items()))


def _counts(counts: Counter[State]) -> Text:
    shown = [state for state in STATES if counts[state] or state != "pruned"]
    words = [(f"{counts[state]} {state}", BARS[state][1] if counts[state] else "") for state in shown]
    parts = [part for word in words for part in (word, " · ")][:-1]
    total = sum(counts.values())
    return Text.assemble(*parts, f" of {total} job{'' if total == 1 else 's'}")


def _times(snapshot: SweepSnapshot, counts: Counter[State], *, now: datetime) -> Text:
    elapsed = seconds_elapsed(snapshot, now=now)
    words = ["no job has started"] if elapsed is None else [f"{duration(elapsed)} since the first start"]
    if snapshot.has_ended:
        words.append("every job has ended")
    elif snapshot.jobs:
        time = time_left(snapshot.remaining, snapshot.records, now=now).text
        words.append(f"{time} remaining" if time else "time remaining not known yet")
        words.append(f"{counts['running'] or 'none'} running now")
    return Text(" · ".join(words))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
