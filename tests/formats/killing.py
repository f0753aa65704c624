"""Writing a folder, killed at any of its changes to the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from softcue.formats import folder as module
from softcue.formats.folder import write_folder
from softcue.runs.atomic import write_atomic

DEAD = 2**22 + 1
"""Above the largest number that Linux gives a process."""


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Killed(BaseException):
    """Ends the process at once: nothing of it runs any more."""


def killed_before(step: int, folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write a folder and end before one of the changes to the disk, as by `kill -9`; whether it did."""
    steps, died = iter(range(99)), False

    def counted(change: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: object, **options: object) -> object:
            # After the kill every change is refused, as those of a `finally` never happen.
            nonlocal died
            if next(steps) >= step:
                died = True
                raise Killed
            return change(*arguments, **options)

        return do

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        for name in ("mkdir", "rename"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(module, "write_atomic", counted(write_atomic))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patch.setattr("os.getpid", lambda: DEAD)
        write_folder(folder, files)
    return died
