"""Console scripts run in this process: as a user starts them, without the seconds of a new process."""

from __future__ import annotations

import importlib
import io
import logging
import os
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hydra.core.global_hydra import GlobalHydra

from docs.fill import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run_script(
    program: str, *arguments: str, cwd: Path, stdin: bytes = b"", merged: bool = False
) -> CompletedProcess[str]:
    """Run a console script of the project; its exit code and output, on stdout alone if `merged`."""
    module, _, function = PROJECT["scripts"][program].partition(":")
    before = logging.getLogger().handlers[:]
    output = io.TextIOWrapper(io.BytesIO(), write_through=True)
    errors = output if merged else io.TextIOWrapper(io.BytesIO(), write_through=True)
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch, _stdin(stdin):
        patch.chdir(cwd)
        patch.setattr("sys.argv", [program, *arguments])
        patch.setattr("sys.stdout", output)
        patch.setattr("sys.stderr", errors)
        code = _exit_code(getattr(importlib.import_module(module), function))
    logging.getLogger().handlers[:] = before
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in (output, errors))
    return CompletedProcess([program, *arguments], code, stdout, "" if merged else stderr)


def _exit_code(main: Callable[[], object]) -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@contextmanager
def _stdin(content: bytes) -> Iterator[None]:
    """Put bytes on this process's stdin, for readers of the file descriptor and of `sys.stdin` alike."""
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(content)
        file.seek(0)
        earlier = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            with open(0, closefd=False) as stdin:
                patch.setattr("sys.stdin", stdin)
                yield
        finally:
            os.dup2(earlier, 0)
            os.close(earlier)
