"""Tables as HTML: a page of its own, or a part of one. Styles stand at the elements, as mail and notebooks
keep nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from softcue.tables.table import CONTROLS, Column, Table

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<body style="font-family: system-ui, sans-serif">
{blocks}</body>
</html>
"""
_TABLE = "border-collapse: collapse; margin: 1em 0"
_CAPTION = "text-align: left; font-weight: 600; padding: 0.3em 0.7em"
_CELL = "padding: 0.3em 0.7em; text-align: {align}; vertical-align: baseline; white-space: {space}"


def html(tables: Sequence[Table[Any]], notes: Sequence[str], width: int) -> str:
    """A page that holds the tables, then the notes as a list."""
    title = next((table.title for table in tables if table.title), "softcue")
    return _PAGE.format(title=_escaped(title), blocks=html_blocks(tables, notes))


def html_blocks(tables: Sequence[Table[Any]], notes: Sequence[str]) -> str:
    """The tables and notes without a page around them."""
    blocks = [_block(table) for table in tables]
    if notes:
        blocks.append("\n".join(["<ul>", *(f"<li>{_escaped(note)}</li>" for note in notes), "</ul>", ""]))
    return "".join(blocks)


def _block(table: Table[Any]) -> str:
    caption = f'<caption style="{_CAPTION}">{_escaped(table.title)}</caption>\n' if table.title else ""
    headings = (_cell("th", column, column.heading) for column in table.columns)
    rows = (_row(_cell("td", column, column.cell(row)) for column in table.columns) for row in table.rows)
    beneath = f"<p>{_escaped(table.caption)}</p>\n" if table.caption else ""
    return (
        f'<table style="{_TABLE}">\n{caption}<thead>\n{_row(headings)}</thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody>\n</table>\n{beneath}"
    )


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>\n"


def _cell(tag: str, column: Column[Any], text: str) -> str:
    # A number's column may be broken in its heading alone.
    space = "nowrap" if column.align == "right" and tag == "td" else "normal"
    return f'<{tag} style="{_CELL.format(align=column.align, space=space)}">{_escaped(text)}</{tag}>'


def _escaped(text: str) -> str:
    return escape(text.translate(CONTROLS))
