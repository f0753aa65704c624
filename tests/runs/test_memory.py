"""Peak memory of a block, whatever ran before it."""

from __future__ import annotations

import resource
import threading
import time

import pytest

from softcue.runs.memory import INTERVAL_S, PeakMemory

MB = 1_000_000


def _hold(megabytes: int) -> None:
    held = bytearray(b"x") * (megabytes * MB)
    time.sleep(3 * INTERVAL_S)
    del held


def test_a_block_that_frees_its_memory_again_still_shows_its_peak() -> None:
    with PeakMemory() as memory:
        _hold(200)
    reading = memory.reading(gpu=None)
    assert 190 < reading.above_start < 260
    assert reading.process > reading.above_start


def test_a_later_block_does_not_inherit_an_earlier_peak() -> None:
    _hold(200)
    with PeakMemory() as memory:
        pass
    reading = memory.reading(gpu=None)
    assert reading.above_start < 50
    assert reading.process < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB - 100


def test_the_sampler_ends_with_its_block_even_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), PeakMemory():
        raise ZeroDivisionError
    assert "peak-memory" not in {thread.name for thread in threading.enumerate()}


def test_the_gpu_peak_is_passed_on() -> None:
    with PeakMemory() as memory:
        pass
    assert memory.reading(gpu=812.5).gpu == 812.5
