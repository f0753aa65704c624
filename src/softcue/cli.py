"""How an entry point fails: the user's mistake is one line on stderr and exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from softcue.errors import SoftcueError

T = TypeVar("T")


def run_app(task: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """A Hydra task whose SoftcueError is printed as one line; goes directly under `@hydra.main`.

    A single run ends there with exit code 1. In a multirun the other jobs go on: Hydra keeps the
    exception until the launcher is done, then names the first job that failed, repeats its line and
    exits with 1.
    Any other exception is a defect of ours and keeps its stack trace.
    """

    @wraps(task)
    def reported(settings: DictConfig) -> T:
        try:
            return task(settings)
        except (SoftcueError, MissingMandatoryValue) as error:
            line = f"error: {_message(error)}"
            print(line, file=sys.stderr, flush=True)
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise CompactHydraException(line) from error
            # SystemExit: the one exception that Hydra lets through a job without words of its own.
            raise SystemExit(1) from error

    return reported


def _message(error: SoftcueError | MissingMandatoryValue) -> str:
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no default; give it as {error.full_key}=..."
    return " ".join(str(error).split())
