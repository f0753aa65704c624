"""An output file that grows, survives `kill -9`, and is renamed once it is complete."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from pydantic import NonNegativeInt, TypeAdapter

from softcue.data.rows import ReadPosition
from softcue.errors import RunBusyError, RunError
from softcue.runs.atomic import unwritable, write_atomic

_BLOCK = 1 << 20  # bytes digested at a time


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The note beside a partial output: whose it is, and how much of it is safe.

    `job` is all that decides the output beside the input's content; `writer` names the last process;
    `written` counts the bytes of output that `digest` is over, `skipped` the unusable rows of input.
    """

    job: Mapping[str, str]
    writer: str
    read: ReadPosition
    written: NonNegativeInt
    digest: str
    skipped: NonNegativeInt


class PartialOutput:
    """An output that grows as `<output>.part`, beside its note, and is renamed once it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part, self.note, self._lock_path = (
            path.with_name(f"{path.name}.part{end}") for end in ("", ".json", ".lock")
        )
        self._job: Mapping[str, str] = {}
        self._file: BinaryIO
        self._written, self._hasher = 0, _hashed(self.part, 0)

    def check(self, *, overwrite: bool) -> None:
        """Raise a RunError if the output cannot be written or must not be replaced."""
        if not self.path.parent.is_dir():
            raise RunError(f"{self.path.parent} is not there; create the folder, or choose another output.")
        if self.path.exists() and not (overwrite or self.is_renamed):
            raise self.existing()

    def existing(self) -> RunError:
        """The error for an output that must not be replaced."""
        return RunError(f"{self.path} exists; choose another output, or replace it with overwrite=true.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the output while the block runs; RunBusyError if another has it.

        The lock is the operating system's and ends with the process, however that ends.
        """
        try:
            lock = FileLock(self._lock_path).acquire(timeout=0)
        except Timeout as error:
            writer = "" if (noted := self._noted()) is None else f" ({noted.writer})"
            raise RunBusyError(
                f"{self.path} is being written by another process{writer}. Wait for it, or choose another "
                "output."
            ) from error
        except OSError as error:
            raise unwritable(self.path, error) from error
        with lock:
            try:
                yield
            finally:
                with suppress(OSError):  # of Windows, where an open file cannot be removed
                    self._lock_path.unlink()
            if self.is_renamed:  # Last, since without its note an output is not known to be complete.
                self.note.unlink(missing_ok=True)

    @property
    def is_renamed(self) -> bool:
        """Whether an earlier process was killed after the output was complete, before it removed the note."""
        return self.note.is_file() and self.path.is_file() and not self.part.exists()

    def progress(self, job: Mapping[str, str]) -> Progress | None:
        """The progress of an earlier process of the same job, None if it wrote nothing.

        Raises:
            RunError: the partial output is another job's, or not what its note describes.
        """
        file = self.path if self.is_renamed else self.part
        if not file.exists() or file.stat().st_size == 0:
            return None
        noted = self._noted()
        if noted is None:
            raise self.foreign(f"{self.note.name} is missing or damaged")
        for key, value in job.items():
            if noted.job.get(key) != value:
                raise self.foreign(f"its {key} is {noted.job.get(key)!r}, not {value!r}")
        is_whole = file.stat().st_size >= noted.written
        if not is_whole or _hashed(file, noted.written).hexdigest() != noted.digest:
            raise self.foreign(f"it is not what {self.note.name} describes")
        return noted if noted.written else None

    def foreign(self, reason: str) -> RunError:
        """The error for a partial output that cannot be resumed."""
        return RunError(
            f"{self.path if self.is_renamed else self.part} belongs to another prediction: {reason}. "
            "Complete that one, or start over with overwrite=true."
        )

    @contextmanager
    def opened(self, job: Mapping[str, str], progress: Progress | None, read: ReadPosition) -> Iterator[None]:
        """Write behind the bytes of `progress`, with the input at `read`; drop what is beyond them."""
        self._job, self._written = job, 0 if progress is None else progress.written
        with _writing(self.part):
            self._hasher = _hashed(self.part, self._written)
            self._file = self.part.open("ab")
        with self._file:
            # Before any byte is dropped, since it must never describe bytes that are not there.
            self.save(read, skipped=0 if progress is None else progress.skipped)
            self._file.truncate(self._written)
            yield

    def write(self, content: bytes) -> None:
        """Bring bytes to the disk."""
        with _writing(self.part):
            self._file.write(content)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._written += len(content)
        self._hasher.update(content)

    def save(self, read: ReadPosition, *, skipped: int) -> None:
        """Note that all rows up to `read` are written or skipped, so that no later process repeats them."""
        progress = Progress(
            job=self._job,
            writer=f"process {os.getpid()} on {platform.node()}",
            read=read,
            written=self._written,
            digest=self._hasher.hexdigest(),
            skipped=skipped,
        )
        write_atomic(self.note, _PROGRESS.dump_json(progress))

    def finish(self) -> None:
        """Give the complete output its name; leaving `locked` then removes the note."""
        with _writing(self.path):
            if not self.is_renamed:
                self.part.replace(self.path)

    def _noted(self) -> Progress | None:
        with suppress(OSError, ValueError):
            return _PROGRESS.validate_json(self.note.read_bytes())
        return None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _hashed(path: Path, num_bytes: int) -> hashlib.blake2b:
    """A hasher of a file's first bytes."""
    hasher = hashlib.blake2b(digest_size=16)
    if num_bytes:
        with path.open("rb") as file:
            while block := file.read(min(num_bytes, _BLOCK)):
                hasher.update(block)
                num_bytes -= len(block)
    return hasher


_PROGRESS = TypeAdapter(Progress)
