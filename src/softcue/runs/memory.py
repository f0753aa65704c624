"""Peak resident memory of a block of code."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from types import TracebackType

import psutil

from softcue.runs.record import PeakMemoryMb

INTERVAL_S = 0.02
STATUS = Path("/proc/self/status")


class PeakMemory:
    """Context manager that measures the highest resident memory of this process during its block.

    If the process needs more memory than ever before, Linux's high-water mark (VmHWM) rises and is the
    exact peak. Below an earlier peak the mark says nothing, so a thread samples every `INTERVAL_S`, which
    can miss a shorter spike. The mark is never reset (/proc/self/clear_refs): some containers refuse, and
    it would be lost for an enclosing block.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = Event()
        self._sampler = Thread(target=self._sample, name="peak-memory", daemon=True)
        self._start = self._peak = self._mark = 0

    def __enter__(self) -> PeakMemory:
        self._mark = high_water_mark()
        self._start = self._peak = self._resident()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()

    def reading(self, *, gpu: float | None) -> PeakMemoryMb:
        """The peak so far, during the block or after it; `gpu` is the caller's measurement."""
        return PeakMemoryMb(
            process=round(self._peak / 1e6, 1),
            above_start=round((self._peak - self._start) / 1e6, 1),
            gpu=gpu,
        )

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._update()
        self._update()

    def _update(self) -> None:
        mark = high_water_mark()
        self._peak = max(self._peak, self._resident(), mark if mark > self._mark else 0)

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)


def high_water_mark() -> int:
    """The most bytes that were ever resident in this process; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
