"""A look as lines for the terminal: none is wrapped, and what is too long ends in an ellipsis."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from softcue.runs.store import RunFolder
from softcue.sweep.curve import last_point
from softcue.sweep.estimate import duration
from softcue.sweep.state import STATES, JobNow, Look
from softcue.sweep.summary import best_of_methods, seconds_elapsed, seconds_since, time_left

BARS = {
    "complete": ("█", "green"),
    "failed": ("×", "red"),
    "pruned": ("▪", "blue"),
    "running": ("▓", "yellow"),
    "cut off": ("▒", "magenta"),
    "left": ("░", "bright_black"),
}
OTHER_LINES = 16
"""Lines of a view that are not rows of its three tables."""
PAGE = 40
"""Rows of the tables together where no terminal limits them."""
NUMBERS = ("runs", "best", "for", "epoch", "step", "loss")
NOTHING = "–"


def view(
    look: Look, *, now: datetime, part: str, metric: str, width: int, height: int | None = None
) -> RenderableType:
    """All there is to see, in lines of `width`; in `height` lines, or as many as a page has."""
    words = told_apart(look.jobs)
    best = [
        (of.method, str(of.runs), f"{of.best:.3f}", _spread(of.mean, of.std), words[of.job.job.runs])
        for of in best_of_methods(look, part=part, metric=metric)
    ]
    complete = any(record.status == "complete" for record in look.records)
    running = [
        (words[job.job.runs], *_progress(look, job, now=now)) for job in look.jobs if job.state == "running"
    ]
    failed = sorted((job for job in look.jobs if job.error), key=_written, reverse=True)
    failures = [(words[job.job.runs], job.error) for job in failed]
    room = PAGE if height is None else max(3, height - OTHER_LINES)
    of_best, of_running, of_failed = shares([len(best), len(running), len(failures)], room)
    return Group(
        *_head(look, now=now, width=width),
        *([] if best or not complete else ["", f"no complete run has {part} {metric}"]),
        *_table((f"best by {part} {metric}", "runs", "best", "mean", "its job"), best, shown=of_best),
        *_table(("running", "for", "epoch", "step", "loss"), running, shown=of_running),
        *_table(("last failures", "error"), failures, shown=of_failed),
    )


def told_apart(jobs: Sequence[JobNow]) -> dict[tuple[str, ...], str]:
    """Each job's words by its runs, without the settings that all jobs share."""
    words = [job.job.words.split() for job in jobs]
    shared = set.intersection(*map(set, words)) if len(words) > 1 else set()
    # A part of a quoted text is no setting.
    shared = {word for word in shared if "=" in word and "'" not in word and '"' not in word}
    return {
        job.job.runs: " ".join(word for word in of_job if word not in shared) or job.job.runs[0]
        for job, of_job in zip(jobs, words, strict=True)
    }


def shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many rows each table may have: all that it wants, or the room dealt out in turn."""
    given = [0] * len(wanted)
    while room > 0 and given != list(wanted):
        for at, most in enumerate(wanted):
            if given[at] < most and room > 0:
                given[at], room = given[at] + 1, room - 1
    return given


def _head(look: Look, *, now: datetime, width: int) -> list[RenderableType]:
    counts = Counter(job.state for job in look.jobs)
    lines = [
        Text(str(look.root), style="bold"),
        # A sweep is always softcue-train's: the others start one run, or none.
        Text(
            look.note or f"softcue-train {shlex.join(look.command)}", style="yellow" if look.note else "dim"
        ),
        _bar(counts, width=width),
        _counts(counts),
        _times(look, counts, now=now),
    ]
    return [_one_line(line) for line in lines]


def _bar(counts: Counter[str], *, width: int) -> Text:
    """A column for each job or for several; a state that few jobs are in still gets one."""
    total = max(1, sum(counts.values()))
    columns = {state: max(1, round(width * counts[state] / total)) for state in STATES if counts[state]}
    if columns:
        # Rounding is made good where it shows least.
        longest = max(columns, key=lambda state: columns[state])
        columns[longest] += width - sum(columns.values())
    return Text.assemble(*((BARS[state][0] * num, BARS[state][1]) for state, num in columns.items()))


def _counts(counts: Counter[str]) -> Text:
    told = [state for state in STATES if counts[state] or state != "pruned"]
    words = [(f"{counts[state]} {state}", BARS[state][1] if counts[state] else "") for state in told]
    parts = [part for word in words for part in (word, " · ")][:-1]
    total = sum(counts.values())
    return Text.assemble(*parts, f" of {total} job{'' if total == 1 else 's'}")


def _times(look: Look, counts: Counter[str], *, now: datetime) -> Text:
    elapsed = seconds_elapsed(look, now=now)
    words = ["no job has started"] if elapsed is None else [f"{duration(elapsed)} since the first start"]
    if look.has_ended:
        words.append("every job has ended")
    elif look.jobs:
        left = time_left(look, now=now)
        if left.all_known or left.seconds:
            words.append(f"{'about' if left.all_known else 'more than'} {duration(left.seconds)} left")
        else:
            words.append("time left not known yet")
        words.append(f"{counts['running'] or 'none'} running now")
    return Text(" · ".join(words))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, shown: int) -> list[RenderableType]:
    """Nothing without rows. Numbers take what they need, and words share the rest."""
    if not rows:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in header:
        justify: Literal["left", "right"] = "right" if heading in NUMBERS else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in (*NUMBERS, "mean"))
    for row in rows[:shown]:
        table.add_row(*map(_one_line, map(Text, row)))
    hidden = len(rows) - shown
    return ["", table, *([Text(f"and {hidden} more", style="bright_black")] if hidden else [])]


def _progress(look: Look, job: JobNow, *, now: datetime) -> tuple[str, str, str, str]:
    """How long a job runs, and how far the first of its runs has come."""
    record = next(run.record for run in job.runs if run.state == "running" and run.record)
    since = duration(seconds_since(job.records, now=now))
    point = last_point(RunFolder(look.root, record.run_id).path / "metrics.csv")
    if point is None:
        return since, NOTHING, NOTHING, NOTHING
    epochs = record.settings.get("trainer", {}).get("max_epochs")
    epoch = NOTHING if point.epoch is None else str(point.epoch + 1)
    of = f"/{epochs}" if epochs is not None and epochs > 0 else ""
    return since, f"{epoch}{of}", str(point.step), NOTHING if point.loss is None else f"{point.loss:.3f}"


def _spread(mean: float, std: float | None) -> str:
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def _written(job: JobNow) -> int:
    return max(run.stamp[0] for run in job.runs)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
