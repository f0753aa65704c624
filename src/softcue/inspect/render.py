"""Tables of a reading for people (terminal, Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from softcue.inspect.reading import Neighbour, Reading
from softcue.inspect.records import records
from softcue.inspect.tables import Cell, Table, tables

WORDS_WIDTH = 44
"""Columns of the terminal that a token's nearest words take before they go on in another line."""


def text_of(reading: Reading, *, form: str, width: int) -> str:
    """The reading as `form` has it: terminal, markdown or csv."""
    if form == "csv":
        # A CSV file has no place for a sentence.
        sys.stderr.writelines(f"{note}\n" for note in reading.notes)
        return csv_text(records(reading))
    if form == "markdown":
        return markdown(tables(reading), notes=reading.notes)
    return terminal_text(tables(reading), notes=reading.notes, width=width)


def terminal_text(tables: Sequence[Table], *, notes: Sequence[str], width: int) -> str:
    """Tables as plain text, the notes beneath them; wider than asked before a number is cut."""
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        for table in tables:
            drawn = _rich(table)
            least = console.measure(drawn, options=console.options.update(max_width=1000)).minimum
            console.print(drawn, width=max(width, least), crop=False)
            console.print()
        for note in notes:
            console.print(Text(note))
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines()) + "\n"


def markdown(tables: Sequence[Table], *, notes: Sequence[str]) -> str:
    """Markdown tables, each under its title, the notes as a list beneath them."""
    paragraphs = [part for table in tables for part in (f"**{table.title}**", _grid(table), table.caption)]
    return "\n\n".join([*paragraphs, "\n".join(f"- {note}" for note in notes)]).rstrip() + "\n"


def csv_text(lines: Sequence[dict[str, object]]) -> str:
    """One line a record."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _rich(table: Table) -> rich_table.Table:
    # Text, not str: rich would read a word such as [b] as its own markup.
    drawn = rich_table.Table(title=Text(table.title), caption=Text(table.caption), box=SIMPLE_HEAD)
    drawn.title_justify = drawn.caption_justify = "left"
    drawn.pad_edge, drawn.collapse_padding = False, True
    columns = zip(*([_plain(cell) for cell in row] for row in table.rows), strict=True)
    for heading, example, cells in zip(table.header, table.rows[0], columns, strict=True):
        least = max(cell_len(line) for cell in cells for line in cell.splitlines())
        if isinstance(example, str):
            drawn.add_column("\n".join(heading.split()), justify="right", min_width=least)
        else:
            drawn.add_column(heading, min_width=least)
    for row in table.rows:
        drawn.add_row(*(Text(_plain(cell)) for cell in row))
    return drawn


def _grid(table: Table) -> str:
    rules = ["---" if isinstance(cell, tuple) else "---:" for cell in table.rows[0]]
    rows = [[_code(cell).replace("|", "\\|") for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (table.header, rules, *rows))


def _plain(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    lines = [""]
    for near in cell:
        word = f"{near.text!r} {near.cosine:.2f}  "
        # Broken here and not by rich, which would break inside ' a word'.
        if cell_len(lines[-1] + word) > WORDS_WIDTH:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines if line)


def _code(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return ", ".join(f"{_code_span(near)} {near.cosine:.2f}" for near in cell)


def _code_span(near: Neighbour) -> str:
    """A word as Markdown shows it unchanged, backticks among its letters or not."""
    fence = "``" if "`" in near.text else "`"
    return f"{fence}{near.text!r}{fence}"
