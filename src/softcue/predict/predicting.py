"""The loop from rows to predictions; what scores them is any function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Protocol

from softcue.errors import DataError
from softcue.predict.answering import Answering
from softcue.predict.output import Output, Writing
from softcue.predict.rows import BadRow, Row, Rows


class Scored(Protocol):
    """One row's likeliest class, and the probability of each."""

    @property
    def label(self) -> str:
        """The class."""

    @property
    def probabilities(self) -> Mapping[str, float]:
        """By class."""


Scorer = Callable[[Sequence[dict[str, str]]], Sequence[Scored]]
"""Scores rows given by the template's columns."""


def predict_rows(
    rows: Rows,
    score: Scorer,
    *,
    answering: Answering,
    writing: Writing,
    output: Output,
    chunk_rows: int,
    skips: bool,
) -> Iterator[list[BadRow]]:
    """Write the predictions of the rows that are left; a step is a chunk, and gives its bad rows.

    Raises:
        DataError: a bad row, if it must not be skipped. The rows before it are written by then.
    """
    checked = (answering.checked(row) for row in rows)
    # Cut by input rows alone, so that a resumed prediction forms the same batches: the same bytes.
    while chunk := list(islice(checked, chunk_rows)):
        bad = [row for row in chunk if isinstance(row, BadRow)]
        usable = chunk if skips else takewhile(lambda row: isinstance(row, Row), chunk)
        good = [row for row in usable if isinstance(row, Row)]
        predictions = score([answering.fields(row) for row in good])
        answers = [
            answering.answer(row, label=prediction.label, probabilities=prediction.probabilities)
            for row, prediction in zip(good, predictions, strict=True)
        ]
        output.write(writing.rows(answers))
        if bad and not skips:
            raise DataError(
                f"{bad[0].where} {bad[0].reason}; mend it and start again, or leave such rows out with "
                "on_bad_row=skip."
            )
        yield bad
