"""What is read of a table's row to predict it, and what the row is then written with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from softcue.errors import DataError
from softcue.predict.rows import BadRow, Columns, Row, Values

RAFT_ID, RAFT_LABEL = "ID", "Label"


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How rows of a table with `columns` become rows of predictions.

    `texts` names the table's column for each of the template's. An answer is the row with `predicted`
    and `p(class)` behind it, or if `raft` the two columns of the benchmark's submission. If not
    `free`, all rows must fit into one table.
    """

    columns: Columns
    texts: Mapping[str, str]
    classes: tuple[str, ...]
    raft: bool
    free: bool

    @property
    def added(self) -> Columns:
        """The columns behind a row's own, named as in a run's predictions."""
        return ("predicted", *(f"p({name})" for name in self.classes))

    @property
    def answer_columns(self) -> Columns:
        """The columns of the predictions."""
        return (RAFT_ID, RAFT_LABEL) if self.raft else (*self.columns, *self.added)

    def check(self, *, where: str) -> None:
        """Raise a DataError if the columns of table `where` do not do."""
        for name, source in self.texts.items():
            if source not in self.columns:
                way_out = (
                    "Name the one to read, as column=text" if len(self.texts) == 1 else "Rename it there"
                )
                raise DataError(
                    f"the prompt reads column {name!r}, and {where} has no {source!r} among "
                    f"{list(self.columns)}. {way_out}."
                )
        if self.raft and RAFT_ID not in self.columns:
            raise DataError(
                f"format=raft writes the ids in column {RAFT_ID!r}, and {where} has {list(self.columns)}; "
                "give RAFT's own test file, or name the column of ids so."
            )
        clashing = [] if self.raft else [name for name in self.columns if name in self.added]
        if clashing:
            raise DataError(
                f"{where} has a column {clashing[0]!r}, as the predictions will; rename or drop it there."
            )

    def checked(self, row: Row | BadRow) -> Row | BadRow:
        """The row, or what is wrong with it."""
        if isinstance(row, BadRow):
            return row
        reason = self._problem(row.values)
        return row if reason is None else BadRow(where=row.where, reason=reason)

    def fields(self, row: Row) -> dict[str, str]:
        """A row's texts by the template's columns."""
        return {name: _text(row.values[source]) for name, source in self.texts.items()}

    def answer(self, row: Row, *, label: str, probabilities: Mapping[str, float]) -> Values:
        """The row to write."""
        if self.raft:
            return {RAFT_ID: row.values[RAFT_ID], RAFT_LABEL: label}
        # Six digits: fp32 knows hardly more.
        rounded = {f"p({name})": float(f"{value:.6g}") for name, value in probabilities.items()}
        return {**row.values, "predicted": label, **rounded}

    def _problem(self, values: Values) -> str | None:
        wanted = [*self.texts.values(), *([RAFT_ID] if self.raft else [])]
        missing = [name for name in wanted if name not in values]
        if missing:
            return f"has no {missing[0]!r}"
        # RAFT wants a label for each id, and two of its test sets have rows without text.
        if not self.raft and not any(_text(values[source]).strip() for source in self.texts.values()):
            return f"has no text in {' or '.join(map(repr, self.texts.values()))}"
        # Only JSONL has rows with columns of their own.
        own = [name for name in values if name not in self.columns]
        foreign = [name for name in own if name in self.added or not self.free]
        if foreign and not self.raft:
            return f"has {foreign[0]!r}, which is none of the first row's columns"
        return None


def _text(value: object) -> str:
    return "" if value is None else str(value)
