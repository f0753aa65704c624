"""Runs to a comparison: cells, scores, pairs, claims and cautions of each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from softcue.report.cautions import over_tasks, task_cautions
from softcue.report.claims import rank_claims, task_claims
from softcue.report.evidence import Evidence, gather
from softcue.report.grouping import make_cells
from softcue.report.model import Cell, Comparison, Pair, Run, TaskComparison, TaskRows
from softcue.report.pairs import Field, adjusted, pair_cells
from softcue.report.ranking import rank_methods
from softcue.report.runs import Collected, Loaded
from softcue.report.scores import cell_scores
from softcue.report.trials import best_of_k
from softcue.runs.metrics import Metric
from softcue.statistics.hypotheses import swap_masks
from softcue.statistics.outcomes import Indices

MOST_CELLS_IN_ALL_PAIRS = 12
"""With more cells, each is compared with the best alone: 66 pairs are as many as a reader takes in."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a reader asked for: part, metrics, the one that orders, and columns of settings (None: found)."""

    part: str
    metrics: tuple[Metric, ...]
    sort_by: Metric
    columns: tuple[str, ...] | None = None


def compare(
    collected: Collected, shown: Shown, *, sources: Sequence[str], notes: Sequence[str]
) -> Comparison:
    """Compare all runs, task by task, in the order of the tasks' first runs."""
    by_task: dict[str, list[Loaded]] = {}
    for one in collected.loaded:
        by_task.setdefault(one.run.task, []).append(one)
    tables = {name: table.rows() for name, table in collected.tables.items()}
    tasks = tuple(compare_task(of_task, tables.get(name), shown) for name, of_task in by_task.items())
    ranks = rank_methods(tasks, shown.sort_by)
    return Comparison(
        part=shown.part,
        metrics=shown.metrics,
        sort_by=shown.sort_by,
        tasks=tasks,
        sources=tuple(sources),
        ranks=ranks,
        claims=rank_claims(ranks),
        cautions=over_tasks(tasks, ranks),
        notes=(*notes, *collected.notes),
    )


def compare_task(loaded: Sequence[Loaded], rows: TaskRows | None, shown: Shown) -> TaskComparison:
    """Everything about one task."""
    cells, settings = make_cells(loaded, columns=shown.columns)
    runs = [run for cell in cells for run in cell.runs]
    cell_R = np.repeat(np.arange(len(cells)), [len(cell.runs) for cell in cells])
    wanted = {metric.name: metric for metric in (*shown.metrics, shown.sort_by)}
    evidence = {name: gather(runs, cell_R, rows, metric) for name, metric in wanted.items()}
    scored = [
        replace(cell, scores=cell_scores(evidence, runs, np.flatnonzero(cell_R == at)))
        for at, cell in enumerate(cells)
    ]
    ordered = sorted(scored, key=lambda cell: _rank(cell, shown.sort_by))
    places = {
        cell.key: np.flatnonzero((cell_R == at) & ~np.isnan(evidence[shown.sort_by.name].score_R))
        for at, cell in enumerate(cells)
    }
    pairs, all_pairs = make_pairs(ordered, runs, places, rows, evidence[shown.sort_by.name])
    finished = [_marked(cell, ordered[0], pairs) for cell in ordered]
    task = TaskComparison(
        task=loaded[0].run.task,
        backbones=tuple(sorted({run.facts["backbone"] for run in runs if "backbone" in run.facts})),
        cells=tuple(finished),
        settings=settings,
        rows=rows,
        pairs=tuple(pairs),
        all_pairs=all_pairs,
        claims=(),
        cautions=(),
        best_of_k=tuple(best_of_k(finished, shown.sort_by)),
    )
    task = replace(task, cautions=task_cautions(task, loaded, shown.part, shown.sort_by))
    return replace(task, claims=task_claims(task, shown.sort_by))


def _rank(cell: Cell, metric: Metric) -> float:
    found = cell.scores.get(metric.name)
    return metric.rank(found.mean if found else None)


def make_pairs(
    ordered: Sequence[Cell],
    runs: Sequence[Run],
    places: dict[str, Indices],
    rows: TaskRows | None,
    evidence: Evidence,
) -> tuple[list[Pair], bool]:
    """Every two cells that have the metric, or with many cells each with the best; adjusted as one family."""
    scored = [cell for cell in ordered if evidence.metric.name in cell.scores]
    all_pairs = len(scored) <= MOST_CELLS_IN_ALL_PAIRS
    masks = swap_masks(len(rows.ids), seed=1) if rows is not None and all_pairs else None
    field = Field(runs=runs, places=places, rows=rows, evidence=evidence, swapped_NK=masks)
    found = [
        pair_cells(field, first, second)
        for at, first in enumerate(scored if all_pairs else scored[:1])
        for second in scored[at + 1 :]
    ]
    return adjusted(found), all_pairs


def _marked(cell: Cell, best: Cell, pairs: Sequence[Pair]) -> Cell:
    """The cell, with whether it differs significantly from the best."""
    found = next((pair for pair in pairs if (pair.first, pair.second) == (best.key, cell.key)), None)
    tested = found is not None and found.p_holm is not None
    return replace(cell, distinguishable=found.distinguishable if found is not None and tested else None)
