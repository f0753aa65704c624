"""The page and the plots of a comparison as files."""

from __future__ import annotations

import re
from pathlib import Path

from softcue.report.model import Comparison
from softcue.report.page.render import page
from softcue.report.plots.registry import drawings
from softcue.report.plots.style import COLUMN, as_file, styled
from softcue.runs.atomic import unwritable, write_atomic

FORMS = ("svg", "png")


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as one HTML file.

    Raises:
        RunError: the file cannot be written.
    """
    write_atomic(path, page(comparison))


def write_plots(comparison: Comparison, folder: Path) -> list[str]:
    """Draw every plot as SVG and PNG at a column's width.

    Returns a line for each that the records do not allow, or that has room for the best settings alone. With
    several tasks, a file's name begins with its task's.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    several, notes = len(comparison.tasks) > 1, []
    with styled():
        for drawing in drawings(comparison, COLUMN):
            task = drawing.task if several else ""
            name = re.sub(r"[^\w.-]+", "_", "-".join(filter(None, (task, drawing.plot.name))))
            if drawing.figure is None:
                notes.append(f"not drawn: {name}: {drawing.reason}")
                continue
            if drawing.note:
                notes.append(f"drawn in part: {name}: {drawing.note}")
            for form in FORMS:
                write_atomic(folder / f"{name}.{form}", as_file(drawing.figure, form=form))
    return notes
