"""How long runs take, as finished ones tell; from records alone, without torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from softcue.runs.record import RunRecord


def expected_seconds(records: Iterable[RunRecord]) -> dict[str, float]:
    """Each method's mean seconds, of complete runs that were not cut off on the way."""
    seconds = defaultdict(list)
    for record in records:
        cut_off = record.training is not None and record.training.resumes > 0
        if record.status == "complete" and record.times is not None and not cut_off:
            seconds[method_of(record.run_id)].append(record.times.total_s)
    return {method: fmean(values) for method, values in seconds.items()}


def method_of(run_id: str) -> str:
    """The method in a run's name; a run that has not started has no other to tell it."""
    return run_id.rpartition("-")[0]


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
