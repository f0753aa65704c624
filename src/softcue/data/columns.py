"""Rows of text as columns of strings: what a task's rows are between their source and the tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns by name, each with a string for every row."""

    by_name: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(next(iter(self.by_name.values())))

    def __getitem__(self, name: str) -> Sequence[str]:
        """A column."""
        return self.by_name[name]

    def row(self, at: int) -> dict[str, str]:
        """A row's strings by column."""
        return {name: values[at] for name, values in self.by_name.items()}

    def rows(self) -> Iterator[dict[str, str]]:
        """All rows, in order."""
        return map(self.row, range(len(self)))

    def select(self, rows: Sequence[int]) -> Columns:
        """The rows at these positions, in this order."""
        return Columns(by_name={name: [values[at] for at in rows] for name, values in self.by_name.items()})

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex digits, of names and values: the same in every process."""
        return digest_of(self.by_name)


def digest_of(content: object) -> str:
    """SHA-256, in hex digits, of what JSON can write."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
