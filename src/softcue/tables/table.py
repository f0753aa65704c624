"""A table is declared by its columns: heading, value, text and alignment. `render` writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, Literal, TypeVar

from softcue.runs.metrics import Statistic

MISSING = "–"
CONTROLS = dict.fromkeys([*range(32), *range(127, 160)], "\ufffd") | dict.fromkeys(map(ord, "\t\n\r"), " ")
"""For str.translate: control characters in received text could move the cursor or end a cell."""

R = TypeVar("R")
CellText = str | tuple[str, ...]
"""A cell's text; each piece of a tuple stays on one line."""


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column of a table whose rows are of type R.

    `value` finds a row's value, None if it has none. `text` writes one that is not None; of a tuple, each
    piece stays on one line. In CSV the column is called `name` (by default the heading), and `fields`
    splits a compound value, or None, into scalars by the suffix of their CSV column's name.
    """

    heading: str
    value: Callable[[R], Any]
    text: Callable[[Any], CellText] = str
    _: KW_ONLY
    align: Literal["left", "right"] = "left"
    name: str = ""
    fields: Callable[[Any], Mapping[str, Any]] = lambda value: {"": value}

    def pieces(self, row: R) -> tuple[str, ...]:
        """The cell's text, in pieces that are not broken, without control characters."""
        value = self.value(row)
        text = MISSING if value is None else self.text(value)
        if isinstance(text, str):
            text = (text,) if self.align == "right" else tuple(text.split(" "))
        return tuple(piece.translate(CONTROLS) for piece in text)

    def cell(self, row: R) -> str:
        """The cell's text on one line."""
        return " ".join(self.pieces(row))


def number(
    heading: str,
    value: Callable[[R], Any],
    text: Callable[[Any], CellText] = str,
    *,
    name: str = "",
) -> Column[R]:
    """A right-aligned column."""
    return Column(heading, value, text, align="right", name=name)


@dataclass(frozen=True, kw_only=True)
class Table(Generic[R]):
    """Rows under their columns, with a title above and a caption beneath."""

    columns: Sequence[Column[R]]
    rows: Sequence[R]
    title: str = ""
    caption: str = ""


def mean_and_deviation(number: Callable[[float], str]) -> Callable[[Statistic], tuple[str, ...]]:
    """Text of a statistic whose numbers are written so: `0.812`, or over several `0.812 ± 0.013 (n=5)`."""

    def text(of: Statistic) -> tuple[str, ...]:
        if of.std is None:
            return (number(of.mean),)
        return f"{number(of.mean)} ± {number(of.std)}", f"(n={of.n})"

    return text


def statistic_fields(of: Statistic | None) -> dict[str, float | None]:
    """A statistic's CSV fields: the mean under the column's own name, its deviation and count."""
    if of is None:
        return {"": None, "_std": None, "_n": 0}
    return {"": of.mean, "_std": of.std, "_n": of.n}


def duration(seconds: float) -> str:
    """`4.2 s`, `1 min 32 s`, `2 h 05 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes: float) -> str:
    """`812 MB`, `1.9 GB`."""
    return f"{megabytes:.0f} MB" if megabytes < 999.5 else f"{megabytes / 1000:.1f} GB"
