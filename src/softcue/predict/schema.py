"""The columns that a prediction reads and writes, and its rows as bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from softcue.data.rows import Columns, TableRow, Values, json_text, text_of
from softcue.errors import DataError, listed

OUTPUT_FORMATS = ("csv", "tsv", "jsonl")
SEPARATORS = {"csv": ",", "tsv": "\t"}
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet run a cell (OWASP, "CSV Injection")."""
RAFT_ID, RAFT_LABEL = "ID", "Label"


@dataclass(frozen=True, kw_only=True)
class OutputSchema:
    """From rows of a table with columns `columns` to rows of predictions.

    `texts` maps each column of the template to the table's column with its text. A row is written with
    `predicted` and `p(class)` behind its own columns, or with `raft` as the two columns of the
    benchmark's submission. A prompt that writes texts has no classes. `free_columns` lets a row have
    columns that the first one lacks.
    """

    columns: Columns
    texts: Mapping[str, str]
    classes: tuple[str, ...]
    raft: bool
    free_columns: bool

    @cached_property
    def added(self) -> Columns:
        """The columns behind a row's own, named as in the predictions of a run."""
        return ("predicted", *(f"p({name})" for name in self.classes))

    @property
    def output_columns(self) -> Columns:
        """The columns of the output; with `free_columns`, those of its first row."""
        return (RAFT_ID, RAFT_LABEL) if self.raft else (*self.columns, *self.added)

    def check(self, *, where: str) -> None:
        """Raise a DataError if the columns of table `where` do not fit."""
        for name, source in self.texts.items():
            if source not in self.columns:
                way_out = (
                    "Name the column to read, as in column=text" if len(self.texts) == 1 else "Rename it"
                )
                raise DataError(
                    f"the prompt reads column {name!r}, and {where} has no {source!r} (columns: "
                    f"{listed(self.columns)}). {way_out}."
                )
        if self.raft and RAFT_ID not in self.columns:
            raise DataError(
                f"format=raft writes the ids in column {RAFT_ID!r}, which {where} does not have (columns: "
                f"{listed(self.columns)}); give RAFT's own test file, or rename the column of ids."
            )
        clashes = [] if self.raft else [name for name in self.columns if name in self.added]
        if clashes:
            raise DataError(
                f"{where} has a column {clashes[0]!r}, as the predictions will; rename or drop it there."
            )

    def checked(self, row: TableRow) -> TableRow:
        """The row, with the problem that it has for this prediction if it can be read at all."""
        return row if row.problem else row._replace(problem=self._problem(row.values))

    def fields(self, row: TableRow) -> dict[str, str]:
        """A row's texts by the template's columns."""
        return {name: text_of(row.values[source]) for name, source in self.texts.items()}

    def output_row(self, row: TableRow, scored: Mapping[str, float] | str) -> Values:
        """A row with its prediction: the most likely class, or the text that was written."""
        if isinstance(scored, str):
            return {**row.values, "predicted": scored}
        label, probabilities = max(scored, key=lambda name: scored[name]), scored
        if self.raft:
            return {RAFT_ID: row.values[RAFT_ID], RAFT_LABEL: label}
        # Six digits, about as many as fp32 has.
        rounded = {f"p({name})": float(f"{value:.6g}") for name, value in probabilities.items()}
        return {**row.values, "predicted": label, **rounded}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.columns)

    def _problem(self, values: Values) -> str | None:
        for source in (*self.texts.values(), *((RAFT_ID,) if self.raft else ())):
            if source not in values:
                return f"has no {source!r}"
        if self.raft:  # It wants a label for every id, and two of its test sets have rows without text.
            return None
        if not any(text_of(values[source]).strip() for source in self.texts.values()):
            return f"has no text in {' or '.join(map(repr, self.texts.values()))}"
        for name in values.keys() - self._known:  # only JSON has such columns
            if name in self.added or not self.free_columns:
                return f"has {name!r}, which is none of the first row's columns"
        return None


@dataclass(frozen=True, kw_only=True)
class RowWriter:
    """Rows as bytes of CSV, TSV or JSON lines; the last writes a row's own keys and ignores `columns`.

    `escape_formulas` puts a ' before cells that a spreadsheet would run.
    """

    form: str
    columns: Columns
    escape_formulas: bool

    def header(self) -> bytes:
        """What comes before the first row."""
        return b"" if self.form == "jsonl" else self._cells([self.columns])

    def rows(self, rows: Iterable[Values]) -> bytes:
        """Rows that have no other column than `columns`; one that they lack is an empty cell."""
        if self.form == "jsonl":
            return "".join(f"{json_text(row)}\n" for row in rows).encode()
        return self._cells([row.get(name) for name in self.columns] for row in rows)

    def _cells(self, rows: Iterable[Iterable[object]]) -> bytes:
        lines = _UnixLines()
        csv.writer(lines, delimiter=SEPARATORS[self.form]).writerows(map(self._cell, row) for row in rows)
        return "".join(lines).encode()

    def _cell(self, value: object) -> str:
        text = text_of(value)
        return f"'{text}" if self.escape_formulas and text.startswith(FORMULA_MARKS) else text


class _UnixLines(list[str]):
    """A target for csv.writer, whose "\\r\\n" makes it quote a lone "\\r" too; our lines end in "\\n"."""

    def write(self, line: str) -> int:
        self.append(line.removesuffix("\r\n") + "\n")
        return len(line)
