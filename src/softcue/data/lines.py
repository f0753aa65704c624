"""Physical lines of a text file, decoded and counted, and rows of one or more lines."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from softcue.data.rows import TableRow, Values
from softcue.errors import ConfigError, DataError

MAX_TEXT = 1 << 20
"""Characters of a cell, or of an object in a JSON array, that are held while its end is searched for."""


class Lines(Iterator[str]):
    """Lines of a file; those that a row turns out not to need come again.

    Lines end in "\\n" alone. A byte that cannot be decoded is kept as a lone surrogate. With `piece`, text
    of so many characters comes in place of lines.
    """

    def __init__(self, file: BinaryIO, *, name: str, encoding: str, piece: int | None = None) -> None:
        try:
            self._text = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="\n")
        except LookupError as error:
            raise ConfigError(f"encoding is {encoding!r}; name one that Python knows, as cp1252.") from error
        self.name, self.encoding, self._piece = name, encoding, piece
        self.num_lines, self.num_bytes = 0, 0
        self._taken: list[str] = []
        self._returned: deque[str] = deque()

    def __next__(self) -> str:
        try:
            line = self._returned.popleft() if self._returned else self._read()
        except UnicodeError as error:  # of an encoding without surrogates, such as utf-16
            raise DataError(f"{self.name} line {self.num_lines + 1} {self._not_decoded(error)}.") from error
        if not line:
            raise StopIteration
        is_first = not (self.num_lines or self._taken)
        self._taken.append(line)
        return line.removeprefix("\ufeff") if is_first else line

    def accept(self, count: int | None = None) -> str | None:
        """Count the first `count` lines taken, or all, as read; the problem with their bytes, if any."""
        problem = None
        for line in self._taken[:count]:
            try:
                raw = line.encode(self.encoding)
            except UnicodeEncodeError as error:
                raw, at = self._bytes(line), len(self._bytes(line[: error.start]))
                problem = problem or self._not_decoded(
                    f"byte 0x{raw[at]:02x} at offset {self.num_bytes + at}"
                )
            self.num_bytes += len(raw)
            self.num_lines += 1
        if count is not None:
            self._returned.extendleft(reversed(self._taken[count:]))
        self._taken = []
        return problem

    def _read(self) -> str:
        return self._text.readline() if self._piece is None else self._text.read(self._piece)

    def _bytes(self, text: str) -> bytes:
        """The bytes that were decoded to this text, those that could not be included."""
        try:
            return text.encode(self.encoding, "surrogateescape")
        except UnicodeEncodeError as error:  # of an encoding of several bytes a unit, such as utf-16
            what = self._not_decoded("it ends within a character")
            raise DataError(f"{self.name} line {self.num_lines + 1} {what}.") from error

    def _not_decoded(self, detail: object) -> str:
        return f"is not {self.encoding} ({detail}); name its encoding, as in encoding=cp1252 or utf-16"


def line_rows(lines: Lines, read: Callable[[], Values | None]) -> Iterator[TableRow]:
    """Rows of one or more lines; `read` returns None for a blank line."""
    while True:
        values, problem, num_own = None, None, None
        try:
            values = read()
        except StopIteration:
            return
        except csv.Error as error:
            # In search of a closing quote it may have taken good lines: only the first is its own.
            problem, num_own = f"cannot be read ({error})", 1
        except ValueError as error:
            problem = str(error)
        where = f"{lines.name} line {lines.num_lines + 1}"
        problem = lines.accept(num_own) or problem
        if problem is not None:
            yield TableRow(where, {}, problem)
        elif values is not None:
            yield TableRow(where, values)
