"""`softcue-report`: run records → one table, on the screen or in a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError, RunError
from softcue.report.render import csv_text, markdown, terminal_text
from softcue.report.table import Row, comparison_rows, unfinished
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.runs.store import list_records

FORMATS = ("terminal", "markdown", "csv")


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="report")
@run_app
def main(settings: DictConfig) -> None:
    """Print the comparison of all runs under a folder."""
    if settings.format not in FORMATS:
        raise ConfigError(f"format is {settings.format!r}; choose one of {', '.join(FORMATS)}.")
    root = Path(settings.runs)
    listing = list_records(root)
    notes = [*unfinished(listing.records), *(f"unreadable: {problem}" for problem in listing.problems)]
    rows = comparison_rows(listing.records, part=settings.part)
    if not rows:
        raise RunError(_nothing(root, notes))
    text = _text(rows, title=_title(listing.records, part=settings.part), notes=notes, form=settings.format)
    if settings.output is None:
        sys.stdout.write(text)
    else:
        write_atomic(Path(settings.output), text)


def _text(rows: Sequence[Row], *, title: str, notes: Sequence[str], form: str) -> str:
    if form == "csv":
        # A CSV file has no place for a sentence.
        sys.stderr.writelines(f"{note}\n" for note in notes)
        return csv_text(rows)
    if form == "markdown":
        return markdown(rows, title=title, notes=notes)
    width = shutil.get_terminal_size((120, 24)).columns
    return terminal_text(rows, title=title, notes=notes, width=width)


def _title(records: Sequence[RunRecord], *, part: str) -> str:
    """Task, backbone and part; a baseline has no backbone to name."""
    tasks = sorted({record.task for record in records})
    backbones = sorted({record.backbone for record in records if record.backbone is not None})
    return " · ".join(words for words in (", ".join(tasks), ", ".join(backbones), part) if words)


def _nothing(root: Path, notes: Sequence[str]) -> str:
    if notes:
        return f"no run under {root} is complete. " + "; ".join(notes)
    return f"no run records under {root}: give the folder that holds them, as in runs=runs/demo."


if __name__ == "__main__":
    main()
