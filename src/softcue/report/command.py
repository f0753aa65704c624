"""What `softcue-report` does: read, compare, and choose what is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from softcue.errors import ConfigError
from softcue.report.cells import text_of
from softcue.report.compare import Shown, compare
from softcue.report.model import Comparison, TaskComparison
from softcue.report.paper import paper_table, read_paper
from softcue.report.runs import Collected, Loaded, load_runs
from softcue.report.sources import find_runs, nothing_found
from softcue.report.tables import all_cells_table, cells_table, pairs_table, ranks_table, trials_table
from softcue.report.theirs import load_theirs
from softcue.report.two_runs import run_folder, two_runs
from softcue.tables.table import Table

PIECES = ("cells", "pairs", "trials", "ranks", "paper", "claims", "cautions")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a reader asked for.

    `where` keeps only runs whose setting, or method, task, backbone or seed, fits one of the patterns;
    `repeated` are patterns of the settings in which the runs of one cell may differ; `show` names PIECES.
    """

    roots: Sequence[Path]
    theirs: Sequence[Path]
    shown: Shown
    where: Mapping[str, Sequence[str]]
    repeated: Sequence[str]
    show: Sequence[str]
    paper: Path | None
    compare: Sequence[str]
    num_rows: int

    def __post_init__(self) -> None:
        unknown = [name for name in self.show if name not in PIECES]
        if unknown:
            raise ConfigError(f"show has {', '.join(unknown)}; choose from {', '.join(PIECES)}.")
        if len(self.compare) not in (0, 2):
            raise ConfigError(f"compare has {len(self.compare)} runs; give two, as in compare=RUN,OTHER.")


def make_comparison(request: Request, *, details: bool = False) -> Comparison:
    """Read and compare all that is asked for; `details` adds texts and learning curves.

    Raises:
        RunError: there is nothing to compare.
        ConfigError: a filter that no run fits, or a column that none has.
    """
    found = find_runs(request.roots)
    if not found.sources and not request.theirs:
        raise nothing_found(request.roots, found.notes)
    part, metric = request.shown.part, request.shown.sort_by
    collected = load_runs(found.sources, part=part, repeated=request.repeated, details=details)
    tasks = dict.fromkeys(one.run.task for one in collected.loaded)
    task = next(iter(tasks)) if len(tasks) == 1 else "their task"
    collected.loaded += load_theirs(request.theirs, default_task=task, default_metric=metric.name)
    _filter(collected, request)
    _expect_columns(collected, request.shown.columns or ())
    sources = [str(path) for path in (*request.roots, *request.theirs)]
    return compare(collected, request.shown, sources=sources, notes=found.notes)


def tables_of(request: Request, comparison: Comparison, form: str) -> tuple[list[Table[Any]], list[str]]:
    """The tables and the sentences beneath them, as asked for; a CSV file holds the first table alone."""
    if request.compare:
        tables, notes = two_runs(comparison, num_rows=request.num_rows)
        return (tables[:1] if form == "csv" else tables), notes
    tables = [table for piece in request.show for table in _tables(piece, request, comparison, form)]
    notes = []
    if "claims" in request.show:
        notes += [claim.text for claim in comparison.claims]
        notes += _by_task(comparison, lambda task: [claim.text for claim in task.claims])
    if "cautions" in request.show:
        notes += [f"caution: {caution.text}" for caution in comparison.cautions]
        notes += _by_task(comparison, lambda task: [f"caution: {caution.text}" for caution in task.cautions])
    return (tables[:1] if form == "csv" else tables), [*notes, *comparison.notes]


def _by_task(comparison: Comparison, of: Callable[[TaskComparison], list[str]]) -> list[str]:
    """Sentences of each task; of several tasks, a sentence is followed by the tasks that it is about."""
    found: dict[str, list[str]] = {}
    for task in comparison.tasks:
        for text in of(task):
            found.setdefault(text, []).append(task.task)
    several = len(comparison.tasks) > 1
    return [f"{text} ({', '.join(tasks)})" if several else text for text, tasks in found.items()]


def two_run_request(request: Request) -> Request:
    """The request for two runs alone, each a cell of its own."""
    folders = [run_folder(name, request.roots[0]) for name in request.compare]
    return Request(
        roots=folders,
        theirs=(),
        shown=request.shown,
        where={},
        repeated=(),
        show=request.show,
        paper=None,
        compare=request.compare,
        num_rows=request.num_rows,
    )


def _tables(piece: str, request: Request, comparison: Comparison, form: str) -> list[Table[Any]]:
    metric = comparison.sort_by
    if piece == "cells":
        if form == "csv":
            return [all_cells_table(comparison)]
        return [cells_table(comparison, task) for task in comparison.tasks]
    if piece == "pairs":
        return [pairs_table(task, metric) for task in comparison.tasks if task.pairs]
    if piece == "trials":
        return [trials_table(comparison)]
    if piece == "ranks":
        return [ranks_table(comparison)]
    if piece == "paper" and request.paper is not None:
        return [paper_table(read_paper(request.paper, comparison))]
    return []


def _filter(collected: Collected, request: Request) -> None:
    for name, patterns in request.where.items():
        kept = [one for one in collected.loaded if _fits(one, name, patterns)]
        if not kept:
            values = sorted({_value(one, name) for one in collected.loaded})
            raise ConfigError(f"where.{name} is {list(patterns)}, which no run fits; there are {values[:8]}.")
        collected.loaded[:] = kept


def _expect_columns(collected: Collected, columns: Sequence[str]) -> None:
    known = dict.fromkeys(path for one in collected.loaded for path in one.variant.common)
    for name in columns:
        if name not in known:
            raise ConfigError(
                f"columns has {name}: no run has such a setting, or the runs of one row differ in it "
                f"(repeated); name others, as in columns={next(iter(known), 'prompt.learning_rate')}."
            )


def _fits(one: Loaded, name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(_value(one, name), pattern) for pattern in patterns)


def _value(one: Loaded, name: str) -> str:
    settings = {**one.variant.common, **one.variant.replicate}
    return text_of(settings[name]) if name in settings else ""
