"""A paper's numbers beside ours, from an experiment's `paper.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from softcue.errors import RunError
from softcue.report.claims import signed
from softcue.report.model import Cell, CellScore, Comparison
from softcue.report.tables import score_fields, score_text
from softcue.runs.metrics import Metric, metric_named
from softcue.tables.table import Column, Table, number

_KNOWN = ("task", "method", "metric", "paper", "tolerance", "deviation", "source")


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A published number, ours if there is a cell for it, and how far apart they may be.

    `deviation` is what we did differently, in words.
    """

    task: str
    method: str
    settings: Mapping[str, str]
    metric: Metric
    paper: float
    tolerance: float | None
    deviation: str
    source: str
    ours: CellScore | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.ours is None else self.ours.mean - self.paper

    @property
    def verdict(self) -> str | None:
        """Whether the difference is within the tolerance; None without either."""
        if self.difference is None or self.tolerance is None:
            return None
        return "within" if abs(self.difference) <= self.tolerance else "outside"


def read_paper(path: Path, comparison: Comparison) -> list[PaperRow]:
    """Read published numbers and find ours: by task, method and all further columns, which are settings.

    The columns are task, method, metric, paper, and as needed tolerance, deviation, source and settings by
    their path.

    Raises:
        RunError: the file is not there, or a row lacks a number.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        return [_row(line, comparison) for line in lines]
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}).") from error
    except (KeyError, ValueError) as error:
        raise RunError(
            f"{path} has a row that cannot be read ({error}); it needs task, method, metric and paper."
        ) from error


def paper_table(rows: list[PaperRow]) -> Table[PaperRow]:
    """Each published number beside ours."""
    paths = dict.fromkeys(path for row in rows for path in row.settings)
    columns: list[Column[PaperRow]] = [
        Column("task", lambda row: row.task),
        Column("method", lambda row: row.method),
        *(Column(path, partial(_setting, path)) for path in paths),
        Column("metric", lambda row: row.metric.title, name="metric"),
        number("paper", lambda row: row.paper, "{:g}".format),
        Column("ours", lambda row: row.ours, _ours, align="right", fields=score_fields),
        number("difference", _signed, name="difference"),
        number("tolerance", lambda row: row.tolerance, "± {:g}".format),
        Column("verdict", lambda row: row.verdict),
        Column("deviation", lambda row: row.deviation or None),
        Column("source", lambda row: row.source or None),
    ]
    return Table(title="paper and ours", columns=columns, rows=rows)


def _row(line: Mapping[str, str], comparison: Comparison) -> PaperRow:
    settings = {name: value for name, value in line.items() if name not in _KNOWN and value}
    metric = metric_named(line["metric"])
    return PaperRow(
        task=line["task"],
        method=line["method"],
        settings=settings,
        metric=metric,
        paper=float(line["paper"]),
        tolerance=float(line["tolerance"]) if line.get("tolerance") else None,
        deviation=line.get("deviation") or "",
        source=line.get("source") or "",
        ours=_ours_for(line["task"], line["method"], settings, metric, comparison),
    )


def _ours_for(
    task: str, method: str, settings: Mapping[str, str], metric: Metric, comparison: Comparison
) -> CellScore | None:
    """The score of the one cell that has the method and these settings; None if none or several have."""
    cells: list[Cell] = [
        cell
        for of in comparison.tasks
        if of.task == task
        for cell in of.cells
        if cell.method == method and not cell.theirs
    ]
    fitting = [cell for cell in cells if settings.items() <= cell.settings.items()]
    return fitting[0].scores.get(metric.name) if len(fitting) == 1 else None


def _setting(path: str, row: PaperRow) -> str | None:
    return row.settings.get(path)


def _ours(score: CellScore) -> str | tuple[str, ...]:
    return score_text(metric_named(score.metric), with_interval=True)(score)


def _signed(row: PaperRow) -> str | None:
    return None if row.difference is None else signed(row.metric, row.difference)
