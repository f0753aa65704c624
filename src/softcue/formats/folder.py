"""Folders that appear whole or not at all, in place of an earlier one."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from softcue.runs.atomic import unwritable, write_atomic

NEW, EARLIER = "tmp", "old"


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a whole folder, in place of an earlier one, or leave everything as it is.

    A folder that is not empty cannot be replaced in one step. If the process ends between the two
    renames, `recover_folder` puts the earlier one back.

    Raises:
        RunError: the folder cannot be written.
    """
    recover_folder(folder)
    mark = f"{socket.gethostname()}-{os.getpid()}"
    scratch, earlier = (folder.with_name(f".{folder.name}.{mark}.{end}") for end in (NEW, EARLIER))
    try:
        scratch.mkdir(parents=True)
        for name, content in files.items():
            write_atomic(scratch / name, content)
        if folder.exists():
            folder.rename(earlier)
        scratch.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        if earlier.exists() and not folder.exists():
            earlier.rename(folder)
        for leftover in (scratch, earlier):
            shutil.rmtree(leftover, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Put back the folder that an interrupted `write_folder` moved aside, and remove what it left.

    What a process of another machine left is put back but not removed: it may still be writing.
    """
    # Without a right to write there, what is there can still be read.
    with suppress(OSError):
        for leftover, host, pid in _leftovers(folder):
            here = host == socket.gethostname()
            if here and psutil.pid_exists(pid):
                continue
            if leftover.suffix == f".{EARLIER}" and not folder.exists():
                leftover.rename(folder)
            elif here:
                shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """Each temporary folder of `write_folder`, with the machine and the process that made it."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.(.+)-([0-9]{{1,9}})\.(?:{NEW}|{EARLIER})")
    for found in sorted(folder.parent.iterdir()):
        if match := name.fullmatch(found.name):
            yield found, match[1], int(match[2])
