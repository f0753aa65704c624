"""Folders that appear whole or not at all, in place of an earlier one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from softcue.runs.atomic import EARLIER, FOLDER, leftovers, scratch_path, unwritable, write_atomic


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a whole folder, in place of an earlier one, or leave everything as it is.

    A folder that is not empty cannot be replaced in one step. If the process ends between the two
    renames, `recover_folder` puts the earlier one back.

    Raises:
        RunError: the folder cannot be written.
    """
    recover_folder(folder)
    scratch, earlier = scratch_path(folder, FOLDER), scratch_path(folder, EARLIER)
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
        for leftover in leftovers(folder, FOLDER, EARLIER):
            if leftover.is_here and leftover.in_use:
                continue
            if leftover.path.suffix == f".{EARLIER}" and not folder.exists():
                leftover.path.rename(folder)
            elif leftover.is_here:
                shutil.rmtree(leftover.path, ignore_errors=True)
