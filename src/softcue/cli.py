"""How an entry point ends: the user's mistake is one line on stderr and exit code 1."""

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
    """A Hydra task whose SoftcueError is printed as one line; goes directly under `@hydra.main`.

    A single run ends there with exit code 1. In a multirun the other jobs go on, and the sweep says at
    its end which failed.
    Any other exception is a defect of ours and keeps its stack trace.
    """

    @wraps(task)
    def reported(settings: DictConfig) -> T:
        try:
            return task(settings)
        except (SoftcueError, MissingMandatoryValue) as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                print(_line(error), file=sys.stderr, flush=True)
                raise CompactHydraException(_line(error)) from error
            # SystemExit: the one exception that Hydra lets through a job without words of its own.
            raise ended(error) from error

    return reported


def ended(error: SoftcueError | MissingMandatoryValue) -> SystemExit:
    """Print an error's line; the exit that is to be raised then."""
    print(_line(error), file=sys.stderr, flush=True)
    return SystemExit(1)


class LeanReturns(Callback):
    """Of a job that has ended Hydra keeps both configs; of ten thousand jobs they would fill the memory."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


def _line(error: SoftcueError | MissingMandatoryValue) -> str:
    return f"error: {_message(error)}"


def _message(error: SoftcueError | MissingMandatoryValue) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no default; give it as {error.full_key}=..."
    return printable(" ".join(str(error).split()))
