"""Files written whole or not at all: write beside the target, flush to disk, rename."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import psutil

from softcue.errors import RunError

FILE, FOLDER, EARLIER = "tmp", "new", "old"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: the block writes a file there, which is then renamed to `path`.

    If the block raises, the temporary file is removed and an existing `path` is unchanged. An OSError
    (full disk, unwritable folder) becomes a RunError. A writer that raises another error for a full disk
    should make its bytes first and pass them to `write_atomic`. What a killed process left is removed.
    """
    _remove_abandoned(path)
    temporary = scratch_path(path, FILE)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        # There is no file after the rename, nor in a folder that could not be written.
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def staging_folder() -> Iterator[Path]:
    """An empty folder for temporary files, while the block runs; an OSError becomes a RunError."""
    try:
        with TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise RunError(
            f"temporary files cannot be written ({error.strerror or error}): free space in the temporary "
            "folder or name another, as in TMPDIR=/another/folder."
        ) from error


def unwritable(path: Path, error: OSError) -> RunError:
    """The error for a path that cannot be written."""
    if isinstance(error, FileNotFoundError):
        return RunError(
            f"{path} cannot be written: there is no folder {path.parent}. Make it or start the command "
            "again, or choose another folder, for runs with paths.runs=/another/folder."
        )
    return RunError(
        f"{path} cannot be written ({error.strerror or error}): free space there or choose another "
        "folder, for runs with paths.runs=/another/folder."
    )


def scratch_path(path: Path, end: str) -> Path:
    """A hidden path beside `path` that names this machine and process, for `leftovers`."""
    mark = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{mark}.{end}")


class Leftover(NamedTuple):
    """A path that `scratch_path` made, and whether its process can still be using it.

    That of a process on another machine always can; such a path is never removed.
    """

    path: Path
    is_here: bool
    in_use: bool


def leftovers(path: Path, *ends: str) -> Iterator[Leftover]:
    """All scratch paths beside `path` that were made for it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(.+)-([0-9]{{1,9}})-[0-9a-f]{{8}}\.(?:{'|'.join(ends)})")
    for found in sorted(path.parent.iterdir()):
        if match := name.fullmatch(found.name):
            is_here = match[1] == socket.gethostname()
            yield Leftover(found, is_here, not is_here or _is_running(int(match[2]), found))


def _is_running(pid: int, made: Path) -> bool:
    """Whether the process that made a path runs: its number may have gone to a later process."""
    try:
        return bool(psutil.Process(pid).create_time() <= changed_at(made) + 1)
    except psutil.NoSuchProcess:
        return False


def changed_at(path: Path) -> float:
    """When a file or folder was last written or renamed, in seconds since 1970."""
    found = path.stat()
    # Renaming a folder changes only the second.
    return max(found.st_mtime, found.st_ctime)


def _remove_abandoned(path: Path) -> None:
    # A folder that cannot be listed or written is reported where the file itself is written.
    with suppress(OSError):
        for leftover in leftovers(path, FILE):
            if not leftover.in_use:
                leftover.path.unlink()
