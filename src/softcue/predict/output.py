"""Where rows go: stdout, or a file that outlives `kill -9` and takes its name once it is complete."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pydantic import TypeAdapter

from softcue.errors import RunError
from softcue.predict.rows import Columns, Place, Rows
from softcue.predict.text import SEPARATORS
from softcue.runs.atomic import unwritable, write_atomic


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Rows as bytes in one of TEXT_FORMATS; JSONL writes a row's own keys and ignores `columns`."""

    form: str
    columns: Columns

    def header(self) -> bytes:
        """What stands before the first row."""
        return b"" if self.form == "jsonl" else self._cells([self.columns])

    def rows(self, rows: Iterable[Mapping[str, object]]) -> bytes:
        """Rows that have no other column than `columns`; one that they lack is an empty cell."""
        if self.form == "jsonl":
            return "".join(f"{_json(row)}\n" for row in rows).encode()
        return self._cells([_cell(row.get(name)) for name in self.columns] for row in rows)

    def _cells(self, rows: Iterable[Iterable[str]]) -> bytes:
        lines = _UnixLines()
        csv.writer(lines, delimiter=SEPARATORS[self.form]).writerows(rows)
        return "".join(lines).encode()


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a partial output says of itself: whose it is, and how far it is safe.

    `job` is all beside the input's own bytes that decides what the output holds; `written` counts
    bytes of output, `skipped` bad rows of input.
    """

    job: dict[str, str]
    read: Place
    written: int
    skipped: int


class Output(Protocol):
    """Takes bytes in order, and is told how far it is safe to go on from."""

    def write(self, content: bytes) -> None:
        """Put bytes where a reader or a later process finds them."""

    def keep(self, rows: Rows, *, skipped: int) -> None:
        """All rows read until now are written, or were skipped."""

    def finish(self) -> None:
        """All rows are written."""


class Stdout:
    """Rows for the next program; nothing to go on from."""

    def write(self, content: bytes) -> None:
        """Hand bytes on at once."""
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()

    def keep(self, rows: Rows, *, skipped: int) -> None:
        """Nothing to remember."""

    def finish(self) -> None:
        """Nothing to close."""


class PartialFile:
    """`output.part`, and beside it `output.part.json` that says how much of it is safe."""

    def __init__(self, output: Path, *, job: dict[str, str]) -> None:
        self.output, self.job = output, job
        self.part = output.with_name(f"{output.name}.part")
        self.note = output.with_name(f"{output.name}.part.json")

    def left(self) -> Progress | None:
        """How far an earlier process came; RunError if it was at another job."""
        if not (self.part.exists() and self.note.exists()):
            return None
        progress = _PROGRESS.validate_json(self.note.read_bytes())
        for key, value in self.job.items():
            if progress.job[key] != value:
                raise self.foreign(f"its {key} is {progress.job[key]!r}, and here it is {value!r}")
        return progress

    def foreign(self, reason: str) -> RunError:
        """The error for a partial output that this job cannot go on with."""
        return RunError(
            f"{self.part} was left by another prediction: {reason}. Complete that one, or begin anew with "
            "overwrite=true."
        )

    @contextmanager
    def opened(self, progress: Progress | None) -> Iterator[GrowingFile]:
        """Go on behind the bytes that are safe; None: begin anew."""
        written = 0 if progress is None else progress.written
        with _writing(self.part):
            if written == 0:
                # The note first: it must not speak of bytes that are no longer there.
                self.note.unlink(missing_ok=True)
                self.part.write_bytes(b"")
            file = self.part.open("rb+")
        with file:
            file.truncate(written)
            file.seek(written)
            yield GrowingFile(self, file)


class GrowingFile:
    """A partial file that is being written."""

    def __init__(self, partial: PartialFile, file: BinaryIO) -> None:
        self.partial, self.file = partial, file

    def write(self, content: bytes) -> None:
        """Bring bytes to the disk."""
        with _writing(self.partial.part):
            self.file.write(content)
            self.file.flush()
            os.fsync(self.file.fileno())

    def keep(self, rows: Rows, *, skipped: int) -> None:
        """Note what a process that is killed after this need not do again."""
        progress = Progress(job=self.partial.job, read=rows.place, written=self.file.tell(), skipped=skipped)
        write_atomic(self.partial.note, _PROGRESS.dump_json(progress))

    def finish(self) -> None:
        """Give the file its name."""
        with _writing(self.partial.output):
            self.partial.part.replace(self.partial.output)
            self.partial.note.unlink(missing_ok=True)


class _UnixLines(list[str]):
    """What csv.writer writes to: "\\r\\n" makes it quote a lone "\\r" too, "\\n" is how our lines end."""

    def write(self, line: str) -> int:
        self.append(line.removesuffix("\r\n") + "\n")
        return len(line)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def _cell(value: object) -> str:
    if value is None:
        return ""
    return _json(value) if isinstance(value, bool | list | dict) else str(value)


def _json(value: object) -> str:
    # str: Parquet has dates and decimals, which JSON has not.
    return json.dumps(value, ensure_ascii=False, default=str)


_PROGRESS = TypeAdapter(Progress)
