"""The numbers of a look: the best of each method, and the time that is left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, stdev

from softcue.runs.record import RunRecord
from softcue.sweep.estimate import expected_seconds, method_of
from softcue.sweep.state import ENDED, JobNow, Look

LESS_IS_BETTER = ("calibration_error", "perplexity")


@dataclass(frozen=True, kw_only=True)
class Best:
    """A method's best complete run, and the mean and sample deviation over all `runs` of it."""

    method: str
    runs: int
    best: float
    mean: float
    std: float | None
    job: JobNow


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """Of jobs whose method has a finished run; `all_known` if that is every job that is left."""

    seconds: float
    all_known: bool


def best_of_methods(look: Look, *, part: str, metric: str) -> list[Best]:
    """One for each method of which a run is complete and has the metric, the best first."""
    scores: dict[str, list[tuple[float, JobNow]]] = defaultdict(list)
    for job in look.jobs:
        for record in job.records:
            score = record.metrics.get(part, {}).get(metric)
            if record.status == "complete" and score is not None:
                scores[record.method].append((score, job))
    sign = 1 if metric in LESS_IS_BETTER else -1
    found = []
    for method, pairs in scores.items():
        values = [score for score, _ in pairs]
        best, job = min(pairs, key=lambda pair: sign * pair[0])
        std = stdev(values) if len(values) > 1 else None
        found.append(Best(method=method, runs=len(values), best=best, mean=fmean(values), std=std, job=job))
    return sorted(found, key=lambda best: sign * best.best)


def time_left(look: Look, *, now: datetime) -> TimeLeft:
    """What finished runs let expect of the others, shared by the jobs that run at once.

    A job that runs needs what it has left of its time. Packed runs train in one pass, so that of one
    run is the job's.
    """
    expected = expected_seconds(look.records)
    total, at_once, all_known = 0.0, 0, True
    for job in look.jobs:
        if job.state in ENDED:
            continue
        seconds = expected.get(method_of(job.job.runs[0]))
        all_known = all_known and seconds is not None
        passed = 0.0
        if job.state == "running":
            at_once += 1
            passed = seconds_since(job.records, now=now)
        total += max(0.0, (seconds or 0.0) - passed)
    return TimeLeft(seconds=total / max(1, at_once), all_known=all_known)


def seconds_elapsed(look: Look, *, now: datetime) -> float | None:
    """From the first start to now, or to the end if all have ended; None before a run has started."""
    if not look.records:
        return None
    if look.has_ended:
        now = datetime.fromtimestamp(look.changed, tz=now.tzinfo)
    return seconds_since(look.records, now=now)


def seconds_since(records: Sequence[RunRecord], *, now: datetime) -> float:
    """Since the first of them started, by the clocks of two machines perhaps."""
    started = min(datetime.fromisoformat(record.started_at) for record in records)
    return max(0.0, (now - started).total_seconds())
