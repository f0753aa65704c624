"""Run many jobs in a few processes that each import and load once: for one GPU, or for many cores.

A job is the overrides of one `softcue-train`; complete runs are skipped, as that command skips them.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import queue
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from threading import Thread
from typing import Any

from softcue.configs.compose import Composer, config_loader
from softcue.errors import ConfigError, SoftcueError

Overrides = tuple[str, ...]


def expect_settings(parser: argparse.ArgumentParser, settings: Sequence[str]) -> None:
    """End the command, before any process starts, if these are no settings of softcue-train."""
    try:
        Composer(config_loader()).compose_unchecked(settings)
    except ConfigError as error:
        parser.error(str(error))


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job that has ended: its runs' folders, or what went wrong."""

    key: str
    folders: tuple[str, ...]
    error: str | None
    seconds: float


class Workers:
    """`count` processes that train jobs, those of the lowest rank first, in the order of submission."""

    def __init__(self, count: int) -> None:
        context = get_context("spawn")
        self._jobs: Queue[tuple[str, Overrides] | None] = context.Queue()
        self._ended: Queue[Done] = context.Queue()
        self._count, self._at_work, self._pending = count, 0, list[tuple[int, int, str, Overrides]]()
        self._numbers = itertools.count()
        self._processes = [
            context.Process(target=_work, args=(self._jobs, self._ended), daemon=True) for _ in range(count)
        ]
        for process in self._processes:
            process.start()

    def submit(self, key: str, overrides: Sequence[str], *, rank: int = 0) -> None:
        """Add a job."""
        heapq.heappush(self._pending, (rank, next(self._numbers), key, tuple(overrides)))

    def _hand_out(self) -> None:
        while self._pending and self._at_work < self._count:
            _, _, key, overrides = heapq.heappop(self._pending)
            self._at_work += 1
            self._jobs.put((key, overrides))

    def run(self, when_done: Callable[[Done], None], *, until: float) -> None:
        """Wait for all jobs, those included that `when_done` submits, or until a moment of `time.time()`.

        Raises:
            RuntimeError: A process ended by itself, which takes its job with it: an import that fails, or the
                system's memory.
        """
        try:
            self._run(when_done, until)
        finally:
            for process in self._processes:
                process.kill()

    def _run(self, when_done: Callable[[Done], None], until: float) -> None:
        while (self._pending or self._at_work) and time.time() < until:
            self._hand_out()
            try:
                done = self._ended.get(timeout=1)
            except queue.Empty:
                self._check_alive()
                continue
            self._at_work -= 1
            state = f"failed: {done.error}" if done.error else "done"
            print(f"{time.strftime('%X')} {done.seconds:6.1f} s {done.key} {state}", flush=True)
            when_done(done)

    def _check_alive(self) -> None:
        ended = [process.exitcode for process in self._processes if not process.is_alive()]
        if ended:
            msg = (
                f"{len(ended)} of {self._count} worker processes ended by themselves (exit codes {ended}); "
                "what they printed above says why. Complete runs are kept: the same command continues."
            )
            raise RuntimeError(msg)


def _end_with_parent() -> None:
    """Nobody waits for the job of a process whose parent was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(jobs: Any, ended: Any) -> None:
    Thread(target=_end_with_parent, daemon=True).start()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import logging

    from softcue.execute import train

    logging.disable(logging.WARNING)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    composer = Composer(config_loader())
    while True:
        key, overrides = jobs.get()
        began, error = time.perf_counter(), None
        folders: tuple[str, ...] = ()
        try:
            folders = tuple(str(folder.path) for folder in train(composer.compose(overrides)))
        except Exception as problem:  # noqa: BLE001 - one job's failure is reported, the others run
            error = f"{type(problem).__name__}: {problem}"[:300]
            if not isinstance(problem, SoftcueError):
                traceback.print_exc(file=sys.stderr)
        ended.put(Done(key=key, folders=folders, error=error, seconds=time.perf_counter() - began))
