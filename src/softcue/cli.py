"""How an entry point ends on a user's mistake: one line on stderr and exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from softcue.errors import SoftcueError, printable

T = TypeVar("T")


def run_app(task: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Decorate a Hydra task so that a SoftcueError is printed as one line; goes under `@hydra.main`.

    A single run then exits with code 1. In a multirun the other jobs continue, and the sweep lists
    the failed ones at its end. Any other exception is a bug and keeps its stack trace.
    """

    @wraps(task)
    def reporting(settings: DictConfig) -> T:
        try:
            return task(settings)
        except (SoftcueError, MissingMandatoryValue) as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                print(_line(error), file=sys.stderr, flush=True)
                raise CompactHydraException(_line(error)) from error
            # SystemExit is the only exception that Hydra passes through a job without a message of its own.
            raise print_error(error) from error

    return reporting


def print_error(error: SoftcueError | MissingMandatoryValue) -> SystemExit:
    """Print an error as one line on stderr; return the SystemExit to raise."""
    print(_line(error), file=sys.stderr, flush=True)
    return SystemExit(1)


class LeanReturns(Callback):
    """Drop both configs from the result of each job: Hydra keeps every result until a sweep ends."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


def _line(error: SoftcueError | MissingMandatoryValue) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"error: {error.full_key} has no default; give it as {error.full_key}=..."
    return f"error: {printable(' '.join(str(error).split()))}"
