"""Tables as text for the terminal, as Markdown, LaTeX, HTML and CSV.

A further format is one more function in `RENDERERS`.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich import table as rich_table
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from softcue.errors import ConfigError, printable
from softcue.runs.atomic import write_atomic
from softcue.tables.html import html
from softcue.tables.table import CONTROLS, Column, Table

MAX_WORD = 40
"""Words of a left-aligned column that are longer may be broken to fit the terminal."""
GLUE = "\ue000"
"""Stands for a space at which a line must not break; rich breaks at non-breaking spaces too."""


def terminal(tables: Sequence[Table[Any]], notes: Sequence[str], width: int) -> str:
    """Plain text of `width` columns, or of more where a number would be cut.

    Columns for which there is no room stand beneath the others, with the names of the rows again.
    """
    blocks = [_terminal_block(table, width) for table in tables]
    if notes:
        blocks.append("\n".join(note.translate(CONTROLS) for note in notes))
    return "\n\n".join(blocks) + "\n"


def _terminal_block(table: Table[Any], width: int) -> str:
    cells = [
        [[piece.replace(" ", GLUE) for piece in column.pieces(row)] for row in table.rows]
        for column in table.columns
    ]
    limits = [_limits(*of) for of in zip(table.columns, cells, strict=True)]
    parts = _parts(table.columns, [least for least, _ in limits], width)
    grids = [
        _grid(
            [table.columns[at] for at in part],
            [cells[at] for at in part],
            _fitted([limits[at] for at in part], width - 2 * len(part)),
        )
        for part in parts
    ]
    caption = Text(table.caption.translate(CONTROLS)).wrap(Console(), width)
    above = [f"{table.title.translate(CONTROLS)}\n"] if table.title else []
    beneath = ["\n".join(str(line).rstrip() for line in caption)] if table.caption else []
    return "\n".join([*above, "\n\n".join(grids), *(f"\n{text}" for text in beneath)])


def _parts(columns: Sequence[Column[Any]], least: Sequence[int], width: int) -> list[list[int]]:
    """The columns by place, in parts that fit beneath each other; each repeats the names of the rows.

    Those are the first columns, up to the first number.
    """
    names = list(takewhile(lambda at: columns[at].align == "left", range(len(columns))))[: len(columns) - 1]
    of_names = sum(least[at] + 2 for at in names)
    parts, room = [names[:]], width - of_names
    for at in range(len(names), len(columns)):
        if least[at] + 2 > room and len(parts[-1]) > len(names):
            parts.append(names[:])
            room = width - of_names
        parts[-1].append(at)
        room -= least[at] + 2
    return parts


def _grid(columns: Sequence[Column[Any]], cells: Sequence[Sequence[list[str]]], widths: Sequence[int]) -> str:
    drawn = rich_table.Table(box=SIMPLE_HEAD)
    drawn.pad_edge, drawn.collapse_padding = False, True
    for column, column_width in zip(columns, widths, strict=True):
        drawn.add_column(_stacked(column), justify=column.align, width=column_width, overflow="fold")
    for row in zip(*cells, strict=True):
        # rich's Text, not str: rich would read a layout such as [soft:5] as its own markup.
        drawn.add_row(*(Text(" ".join(pieces)) for pieces in row))
    console = Console(file=io.StringIO(), width=sum(widths) + 2 * len(widths), color_system=None)
    with console.capture() as captured:
        console.print(drawn, crop=False)
    lines = [line.rstrip() for line in captured.get().replace(GLUE, " ").splitlines()]
    return "\n".join(lines).strip("\n")


def _stacked(column: Column[Any]) -> str:
    """A number's heading takes a line for each word, as numbers are narrow."""
    return column.heading.replace(" ", "\n") if column.align == "right" else column.heading


def _limits(column: Column[Any], cells: Sequence[Sequence[str]]) -> tuple[int, int]:
    """The least width of a column, and the width at which nothing in it is broken."""
    lines = [*_stacked(column).splitlines(), *(" ".join(pieces) for pieces in cells)]
    longest_word = max((cell_len(word) for line in lines for word in line.split()), default=0)
    longest_line = max((cell_len(line) for line in lines), default=0)
    return longest_word if column.align == "right" else min(longest_word, MAX_WORD), longest_line


def _fitted(limits: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Widths that add up to `room` or less where possible, taken from the columns with most to spare."""
    widths = [full for _, full in limits]
    for _ in range(sum(widths) - room):
        spare = [width - least for width, (least, _) in zip(widths, limits, strict=True)]
        if max(spare) > 0:
            widths[spare.index(max(spare))] -= 1
    return widths


def markdown(tables: Sequence[Table[Any]], notes: Sequence[str], width: int) -> str:
    """Each table under its title, then the notes as a list; lines are as long as they are."""
    paragraphs = []
    for table in tables:
        paragraphs += [f"**{escape_markdown(table.title)}**", markdown_grid(table)]
        paragraphs += [escape_markdown(table.caption)] if table.caption else []
    paragraphs += ["\n".join(f"- {escape_markdown(note)}" for note in notes)] if notes else []
    return "\n\n".join(paragraphs) + "\n"


def markdown_grid(table: Table[Any]) -> str:
    """The rows and headings alone."""
    headings = [escape_markdown(column.heading) for column in table.columns]
    rules = ["---:" if column.align == "right" else "---" for column in table.columns]
    rows = [[escape_markdown(column.cell(row)) for column in table.columns] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, rules, *rows))


def escape_markdown(text: str) -> str:
    """One line of Markdown that is shown as this text: no markup, HTML, link, formula or further cell."""
    return _MARKUP.sub(r"\\\g<0>", text.translate(CONTROLS))


_MARKUP = re.compile(r"[\\`*\[<|~$]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])")


def latex(tables: Sequence[Table[Any]], notes: Sequence[str], width: int) -> str:
    """A tabular of booktabs for each table, title, caption and notes as LaTeX's comments."""
    blocks = [_latex_block(table) for table in tables]
    if notes:
        blocks.append("\n".join(f"% {note.translate(CONTROLS)}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def _latex_block(table: Table[Any]) -> str:
    def line(texts: Iterable[str]) -> str:
        return " & ".join(map(escape_latex, texts)) + r" \\"

    comments = [f"% {text.translate(CONTROLS)}" for text in (table.title, table.caption) if text]
    align = "".join("r" if column.align == "right" else "l" for column in table.columns)
    rows = [line(column.cell(row) for column in table.columns) for row in table.rows]
    return "\n".join(
        [
            *comments,
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            line(column.heading for column in table.columns),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def escape_latex(text: str) -> str:
    """One line of LaTeX that is set as this text, apart from characters that the font lacks."""
    return "".join(_LATEX.get(character, character) for character in text.translate(CONTROLS))


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A row that begins with a bracket would be read as the option of the line break before it.
    "[": "{[}",
    "]": "{]}",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "–": "--",
    "\ufffd": "?",
}


def csv_text(tables: Sequence[Table[Any]], notes: Sequence[str], width: int) -> str:
    """A single table, one value a cell, numbers unrounded, nothing where there is none; without notes."""
    (table,) = tables
    lines = plain_rows(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def plain_rows(table: Table[Any]) -> list[dict[str, Any]]:
    """The rows of a table as plain values by the names of CSV's columns, None where there is none."""
    return [
        {
            f"{column.name or column.heading}{suffix}": value
            for column in table.columns
            for suffix, value in column.fields(column.value(row)).items()
        }
        for row in table.rows
    ]


RENDERERS = {"terminal": terminal, "markdown": markdown, "latex": latex, "html": html, "csv": csv_text}


def expect_format(form: str) -> None:
    """Raise ConfigError unless there is a renderer for the format."""
    if form not in RENDERERS:
        raise ConfigError(f"format is {form!r}; choose one of {', '.join(RENDERERS)}.")


def write_tables(
    tables: Sequence[Table[Any]], *, form: str, output: str | None, notes: Sequence[str] = ()
) -> None:
    """Write tables to the file `output`, or to standard output if it is None."""
    if form == "csv":
        # A CSV file has no room for a sentence.
        sys.stderr.writelines(f"{printable(note)}\n" for note in notes)
    text = RENDERERS[form](tables, notes, shutil.get_terminal_size((120, 24)).columns)
    if output is None:
        # The other formats are written for a terminal; CSV only meets one if it is not redirected.
        lines = text.split("\n")
        sys.stdout.write("\n".join(map(printable, lines)) if sys.stdout.isatty() else text)
    else:
        write_atomic(Path(output), text)
