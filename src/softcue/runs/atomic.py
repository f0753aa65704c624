"""Files that appear whole or not at all: write beside the target, flush to disk, rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softcue.errors import RunError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A free name in the folder of `path`: the block writes a file there, which then becomes `path`.

    If the block raises, nothing is left and an existing `path` is untouched. An OSError (full disk,
    unwritable folder) becomes a RunError; writers that raise anything else for a full disk should
    make their bytes first and give them to `write_atomic`.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        # Nothing to remove after the rename, nor in a folder that could not be written.
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a whole file; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def unwritable(path: Path, error: OSError) -> RunError:
    """The error for a place that takes no files, with the way out."""
    return RunError(
        f"{path} cannot be written ({error.strerror or error}): free space there or choose another "
        "folder, for runs with paths.runs=/another/folder."
    )
