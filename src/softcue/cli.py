"""How entry points write to the terminal, and end on an error: one line on stderr and exit code 1."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any, TextIO, TypeVar, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from softcue.configs import CONFIG_PATH
from softcue.configs.kinds import expect_kinds
from softcue.configs.mistakes import explain
from softcue.errors import ConfigError, SoftcueError, logs_of, printable
from softcue.runs.identity import leaves

T = TypeVar("T")

INTERRUPTED = 130
"""The exit code of a program that Ctrl-C ended: 128 + SIGINT."""

_FULL_ERROR = "HYDRA_FULL_ERROR"
"""With this variable set, Hydra passes errors on and does not print them itself."""
_VALUED = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--package",
    "-p",
    "--cfg",
    "-c",
)
"""Hydra's flags whose value may be the next argument."""


def hydra_app(config_name: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Decorate what a command does with its settings, `conf/<config_name>.yaml` and the command line's.

    All errors are printed as `run_app` says, those of Hydra itself included.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        as_app = hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name=config_name)
        # softcue-train checks its own, which depend on the options chosen.
        app = as_app(run_app(task if config_name == "train" else _checked(task, config_name)))

        @wraps(task)
        def main() -> None:
            arguments = sys.argv[1:]
            sys.argv[1:] = flags_first(arguments)
            if _FULL_ERROR in os.environ:
                app()
                return
            os.environ[_FULL_ERROR] = "1"
            try:
                app()
            except (HydraException, OmegaConfBaseException) as error:
                raise print_error(ConfigError(explain(error, _known(config_name, arguments)))) from error
            finally:
                os.environ.pop(_FULL_ERROR, None)

        return main

    return decorate


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's flags in front of the settings, since it refuses settings on both sides of a flag."""
    flags: list[str] = []
    settings: list[str] = []
    for before, argument in zip(["", *arguments], arguments, strict=False):
        is_setting = not argument.startswith("-") and before not in _VALUED
        (settings if is_setting else flags).append(argument)
    return [*flags, *settings]


def _checked(task: Callable[[DictConfig], Any], config_name: str) -> Callable[[DictConfig], Any]:
    """A task that refuses settings of another kind than their defaults."""

    def check(settings: DictConfig) -> Any:
        given = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=False))
        expect_kinds(dict(leaves(given)), _defaults(config_name))
        return task(settings)

    return check


def _known(config_name: str, arguments: Sequence[str]) -> Collection[str]:
    """The paths of all settings of a command."""
    if config_name == "train":
        from softcue.configs.compose import known_settings

        return known_settings(arguments)
    return _defaults(config_name)


def _defaults(config_name: str) -> dict[str, Any]:
    """The settings of a command other than softcue-train, by path."""
    files = CONFIG_PATH / f"{config_name}.yaml", CONFIG_PATH / config_name / "default.yaml"
    merged = OmegaConf.merge(*(OmegaConf.load(file) for file in files if file.is_file()))
    settings = cast(dict[str, Any], OmegaConf.to_container(merged))
    return {
        path: value for path, value in leaves(settings) if path.partition(".")[0] not in ("hydra", "defaults")
    }


def run_app(task: Callable[[DictConfig], T]) -> Callable[[DictConfig], T]:
    """Decorate a Hydra task so that an error is printed as one line; `hydra_app` does it.

    A single run then exits with code 1. In a multirun the other jobs continue, and the sweep lists
    the failed ones at its end. An exception that is none of ours is a bug: the line says so and where its
    stack is, which is printed here only if no log has it. Ctrl-C ends a run or a sweep with exit code 130.
    """

    @wraps(task)
    def reporting(settings: DictConfig) -> T:
        try:
            return task(settings)
        except KeyboardInterrupt as stop:
            say("interrupted; the same command again resumes it.", to=sys.stderr)
            raise SystemExit(INTERRUPTED) from stop
        except Exception as error:
            if not _is_ours(error) and not logs_of(error):
                say(traceback.format_exc().rstrip(), to=sys.stderr)
            ended = print_error(error)
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise CompactHydraException(_line(error)) from error
            # SystemExit is the only exception that Hydra passes through a job without a message of its own.
            raise ended from error

    return reporting


def print_error(error: Exception) -> SystemExit:
    """Print an error as one line on stderr; return the SystemExit to raise."""
    say(_line(error), to=sys.stderr)
    return SystemExit(1)


def say(text: str, *, to: TextIO | None = None) -> None:
    """Print text, on stdout by default, with control characters of data written out."""
    print("\n".join(map(printable, text.split("\n"))), file=to or sys.stdout, flush=True)


class PrintableFormatter(logging.Formatter):
    """Formats log records with control characters of data written out."""

    def format(self, record: logging.LogRecord) -> str:
        """Each line of the record, its stack included."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class LeanReturns(Callback):
    """Drop both configs from the result of each job: Hydra keeps every result until a sweep ends."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None


def _is_ours(error: Exception) -> bool:
    return isinstance(error, (SoftcueError, OmegaConfBaseException))


def _line(error: Exception) -> str:
    if isinstance(error, OmegaConfBaseException):
        return f"error: {explain(error, ())}"
    text = " ".join(str(error).split())
    if _is_ours(error):
        return f"error: {text}"
    stack = f"in {', '.join(logs_of(error))}" if logs_of(error) else "above"
    return (
        f"error: {type(error).__name__}: {text} - this is a bug in softcue, not a mistake of yours: please "
        f"report it with the stack, which is {stack}."
    )
