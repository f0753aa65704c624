"""Files written whole or not at all: write beside the target, flush to disk, rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from softcue.errors import RunError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`: the block writes a file there, which is then renamed to `path`.

    If the block raises, the temporary file is removed and an existing `path` is unchanged. An OSError
    (full disk, unwritable folder) becomes a RunError. A writer that raises another error for a full disk
    should make its bytes first and pass them to `write_atomic`.
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
        # There is no file after the rename, nor in a folder that could not be written.
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file; text as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def unwritable(path: Path, error: OSError) -> RunError:
    """The error for a path that cannot be written."""
    return RunError(
        f"{path} cannot be written ({error.strerror or error}): free space there or choose another "
        "folder, for runs with paths.runs=/another/folder."
    )
