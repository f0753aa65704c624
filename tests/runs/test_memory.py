"""Peak memory of a block, regardless of what ran before it."""

from __future__ import annotations

import mmap
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from softcue.runs.memory import PeakMemory, high_water_mark

MB = 1_000_000
SPIKE = """
from mmap import mmap
import softcue.runs.memory as memory
memory.INTERVAL_S = 3600
with memory.PeakMemory() as peak, mmap(-1, 100_000_000) as held:
    for start in range(0, len(held), 4096):
        held[start] = 1
reading = peak.reading(gpu=None)
print(reading.above_start, reading.process)
"""


@contextmanager
def held(megabytes: int) -> Iterator[None]:
    """Keep so much fresh memory resident; unlike malloc's, it is returned at once."""
    with mmap.mmap(-1, megabytes * MB) as memory:
        for start in range(0, len(memory), mmap.PAGESIZE):
            memory[start] = 1
        yield


needs_mark = pytest.mark.skipif(high_water_mark() == 0, reason="the system keeps no high-water mark")


@needs_mark
def test_a_peak_between_two_samples_is_measured() -> None:
    """In a process of its own, whose memory was never higher, and which takes no sample in the block."""
    done = subprocess.run([sys.executable, "-c", SPIKE], capture_output=True, text=True, check=True)
    above_start, process = map(float, done.stdout.split())
    assert 95 < above_start < 105
    assert process > above_start


def test_a_peak_below_an_earlier_one_is_sampled_and_outlasts_its_memory() -> None:
    with held(300):
        pass
    with PeakMemory() as memory, held(100):
        end = time.monotonic() + 60
        while memory.reading(gpu=None).above_start < 95:
            assert time.monotonic() < end, "no sample within a minute"
            time.sleep(0.01)
    reading = memory.reading(gpu=None)
    assert 95 < reading.above_start < 250, "the earlier peak of 300 MB"
    assert reading.process > reading.above_start


def test_a_later_block_does_not_inherit_an_earlier_peak() -> None:
    with PeakMemory(), held(100):
        pass
    with PeakMemory() as memory:
        pass
    reading = memory.reading(gpu=None)
    assert reading.above_start < 50


def test_the_sampler_ends_with_its_block_even_when_the_block_raises() -> None:
    with pytest.raises(ZeroDivisionError), PeakMemory():
        raise ZeroDivisionError
    assert "peak-memory" not in {thread.name for thread in threading.enumerate()}


def test_the_gpu_peak_is_passed_on() -> None:
    with PeakMemory() as memory:
        pass
    assert memory.reading(gpu=812.5).gpu == 812.5
