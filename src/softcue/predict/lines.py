"""Physical lines of a UTF-8 file: counted, digested, and given back where a row turns out shorter."""

from __future__ import annotations

import codecs
import hashlib
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from softcue.predict.rows import Place

_BLOCK = 1 << 20  # bytes digested at a time


class Lines(Iterator[str]):
    """Lines as text. A row takes one or several, and says with `accept` how many were its own.

    Bytes that are no UTF-8 become replacement characters and set `undecodable` until the next row.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.num_lines, self.num_bytes = 0, 0
        self.undecodable = False
        self._hasher = hashlib.blake2b(digest_size=16)
        self._taken: list[bytes] = []
        self._ahead: deque[bytes] = deque()

    def __next__(self) -> str:
        line = self._ahead.popleft() if self._ahead else self.file.readline()
        if not line:
            raise StopIteration
        is_first = self.num_lines == 0 and not self._taken
        self._taken.append(line)
        content = line.removeprefix(codecs.BOM_UTF8) if is_first else line
        try:
            return content.decode()
        except UnicodeDecodeError:
            self.undecodable = True
            return content.decode(errors="replace")

    def accept(self, count: int | None = None) -> int:
        """The line number of a row: the first `count` lines taken, or all. Others will come again."""
        number = self.num_lines + 1
        own, others = self._taken[:count], [] if count is None else self._taken[count:]
        for line in own:
            self._hasher.update(line)
        self.num_lines += len(own)
        self.num_bytes += sum(map(len, own))
        self._ahead.extendleft(reversed(others))
        self._taken, self.undecodable = [], False
        return number

    def place(self, *, rows: int) -> Place:
        """The place after the last line accepted."""
        return Place(rows=rows, lines=self.num_lines, bytes=self.num_bytes, digest=self._hasher.hexdigest())

    def go_on(self, place: Place) -> bool:
        """Go to a place; False if the bytes before it have changed."""
        self._ahead.clear()
        self.file.seek(0)
        self._hasher = hashlib.blake2b(digest_size=16)
        left = place.bytes
        while block := self.file.read(min(left, _BLOCK)):
            self._hasher.update(block)
            left -= len(block)
        self.num_lines, self.num_bytes = place.lines, place.bytes
        return left == 0 and self._hasher.hexdigest() == place.digest
