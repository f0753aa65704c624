"""Peak resident memory of a stretch of code."""

from __future__ import annotations

from threading import Event, Thread
from types import TracebackType

import psutil

from softcue.runs.record import PeakMemoryMb

INTERVAL_S = 0.02


class PeakMemory:
    """A context manager that samples the resident memory of this process while its block runs.

    Sampling, because runs follow one another in one process: `ru_maxrss` keeps the highest of them
    all, and resetting the kernel's high-water mark (/proc/self/clear_refs) is Linux alone, refused
    in some containers, and would spoil the mark for an enclosing block. A spike shorter than
    `INTERVAL_S` can be missed.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._stop = Event()
        self._sampler = Thread(target=self._sample, name="peak-memory", daemon=True)
        self._start = self._peak = 0

    def __enter__(self) -> PeakMemory:
        self._start = self._peak = self._resident()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._sampler.join()

    def reading(self, *, gpu: float | None) -> PeakMemoryMb:
        """The peak so far, during the block or after it; the caller says what the GPU's was."""
        return PeakMemoryMb(
            process=round(self._peak / 1e6, 1),
            above_start=round((self._peak - self._start) / 1e6, 1),
            gpu=gpu,
        )

    def _sample(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._peak = max(self._peak, self._resident())
        self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        return int(self._process.memory_info().rss)
