"""The numbers of a sweep's states: each method's best run, and how long the remaining jobs take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean

from softcue.runs.metrics import Metric, Statistic, statistic
from softcue.runs.record import RunRecord
from softcue.sweep.state import JobState, SweepSnapshot
from softcue.tables.table import duration


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best value of a metric over a method's complete runs, its job, and the mean over all of them."""

    method: str
    value: float
    job: JobState
    mean: Statistic | None


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """Seconds of the remaining jobs whose method has a complete run; `all_known` if that is all of them."""

    seconds: float
    all_known: bool

    @property
    def text(self) -> str:
        """The time in words; empty if nothing is known of it."""
        if not self.all_known and not self.seconds:
            return ""
        return f"{'about' if self.all_known else 'more than'} {duration(self.seconds)}"


def best_of_methods(jobs: Iterable[JobState], *, part: str, metric: Metric) -> list[Best]:
    """The best of each method that has the metric, the best method first."""
    found: dict[str, list[tuple[float, JobState]]] = defaultdict(list)
    for job in jobs:
        for record in job.records:
            value = record.metric(part, metric.name)
            if record.status == "complete" and value is not None:
                found[record.method].append((value, job))
    best = []
    for method, pairs in found.items():
        value, job = min(pairs, key=lambda pair: metric.rank(pair[0]))
        best.append(Best(method=method, value=value, job=job, mean=statistic(value for value, _ in pairs)))
    return sorted(best, key=lambda of: metric.rank(of.value))


def mean_score(jobs: Sequence[JobState], part: str, metric: Metric) -> float | None:
    """The mean of a metric over the runs of jobs; None unless all are complete and have it."""
    values = [record.metric(part, metric.name) for job in jobs for record in job.records]
    found = [value for value in values if value is not None]
    complete = all(job.state == "complete" for job in jobs)
    return fmean(found) if complete and len(found) == len(values) else None


def time_left(jobs: Iterable[JobState], records: Iterable[RunRecord], *, now: datetime) -> TimeLeft:
    """How long jobs still take, divided by how many of them are running.

    A job takes the mean time of its method's runs in `records`, less the time that it has been running.
    Jointly trained runs share one pass, so their job takes as long as one run.
    """
    expected = expected_seconds(records)
    total, num_running, all_known = 0.0, 0, True
    for job in jobs:
        seconds = expected.get(method_of(job))
        all_known = all_known and seconds is not None
        passed = 0.0
        if job.state == "running":
            num_running += 1
            passed = seconds_since(job.records, now=now)
        total += max(0.0, (seconds or 0.0) - passed)
    return TimeLeft(seconds=total / max(1, num_running), all_known=all_known)


def expected_seconds(records: Iterable[RunRecord]) -> dict[str, float]:
    """Each method's mean seconds, over complete runs that were never interrupted."""
    seconds = defaultdict(list)
    for record in records:
        interrupted = record.training is not None and record.training.resumes > 0
        if record.status == "complete" and record.times is not None and not interrupted:
            seconds[record.method].append(record.times.total_s)
    return {method: fmean(values) for method, values in seconds.items()}


def method_of(job: JobState) -> str:
    """The method in the run's id, which a run without a record has too."""
    return job.first_run_id.rpartition("-")[0]


def seconds_elapsed(snapshot: SweepSnapshot, *, now: datetime) -> float | None:
    """From the first start until now, or until the last job has ended; None before the first start."""
    if not snapshot.records:
        return None
    if snapshot.has_ended:
        now = datetime.fromtimestamp(snapshot.changed, tz=now.tzinfo)
    return seconds_since(snapshot.records, now=now)


def seconds_since(records: Sequence[RunRecord], *, now: datetime) -> float:
    """Since the first of the runs started; 0 if another machine's clock is ahead."""
    started = min(datetime.fromisoformat(record.started_at) for record in records)
    return max(0.0, (now - started).total_seconds())
