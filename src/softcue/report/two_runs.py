"""Two runs side by side: which is better, by how much, how sure, and on which rows they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softcue.errors import RunError
from softcue.report.claims import p_text
from softcue.report.model import Cell, Comparison, TaskComparison, TaskRows
from softcue.report.tables import cells_table
from softcue.runs.store import RECORD
from softcue.tables.table import Column, Table, number


@dataclass(frozen=True, kw_only=True)
class Differing:
    """A row that two runs predict differently, and each one's probability of the true class."""

    id: str
    text: str | None
    label: str | None
    predicted: tuple[str, str]
    of_label: tuple[float | None, float | None]

    @property
    def gap(self) -> float:
        """How much more the first run believes in the true class."""
        first, second = self.of_label
        return 0.0 if first is None or second is None else first - second


def run_folder(name: str, root: Path) -> Path:
    """The folder of a run that is named by its path, or by its id under a folder of runs.

    Raises:
        RunError: there is none.
    """
    for folder in (Path(name), root / name):
        if (folder / RECORD).is_file():
            return folder
    raise RunError(f"no run {name}: give its folder, or its id and the folder of runs, as in runs=runs/demo.")


def differing_rows(rows: TaskRows, first: Cell, second: Cell) -> list[Differing]:
    """The rows that two single runs predict differently, first those whose probabilities part most."""
    one, other = first.runs[0].predictions, second.runs[0].predictions
    if one is None or other is None:
        return []
    common, at_one, at_other = np.intersect1d(one.row_B, other.row_B, return_indices=True)
    found = []
    for row, here, there in zip(common.tolist(), at_one.tolist(), at_other.tolist(), strict=True):
        picked = int(one.predicted_B[here]), int(other.predicted_B[there])
        target = int(rows.target_N[row])
        if picked[0] != picked[1]:
            known = target >= 0
            found.append(
                Differing(
                    id=rows.ids[row],
                    text=rows.texts[row],
                    label=rows.label(row),
                    predicted=(rows.classes[picked[0]], rows.classes[picked[1]]),
                    of_label=(
                        float(one.probability_BC[here, target]) if known else None,
                        float(other.probability_BC[there, target]) if known else None,
                    ),
                )
            )
    return sorted(found, key=lambda row: -abs(row.gap))


def two_runs(comparison: Comparison, *, num_rows: int) -> tuple[list[Table[Any]], list[str]]:
    """Tables and sentences about two runs; RunError if they share no task."""
    shared = [task for task in comparison.tasks if len(task.cells) == 2]
    if not shared:
        names = ", ".join(task.task for task in comparison.tasks)
        raise RunError(f"the two runs share no task ({names}): compare runs of one task.")
    tables: list[Table[Any]] = []
    notes: list[str] = []
    for task in shared:
        tables.append(cells_table(comparison, task))
        notes += [claim.text for claim in task.claims]
        notes += _tests(task)
        if task.rows is not None:
            found = differing_rows(task.rows, *task.cells)
            notes.append(f"They predict {len(found)} of {task.cells[0].rows} rows differently.")
            if found:
                tables.append(_rows_table(task, found, num_rows))
    return tables, notes


def _tests(task: TaskComparison) -> Iterator[str]:
    for pair in task.pairs:
        if pair.mcnemar is not None:
            first, second = (task.by_key[key].label for key in (pair.first, pair.second))
            yield (
                f"Only {first} has {pair.mcnemar.only_first} rows right, only {second} "
                f"{pair.mcnemar.only_second} (McNemar's exact test of accuracy: {p_text(pair.mcnemar.p)})."
            )


def _rows_table(task: TaskComparison, found: Sequence[Differing], num_rows: int) -> Table[Differing]:
    first, second = (cell.label for cell in task.cells)

    def of_run(at: int) -> Callable[[Differing], str]:
        return lambda row: row.predicted[at]

    def share(at: int) -> Callable[[Differing], float | None]:
        return lambda row: row.of_label[at]

    columns: list[Column[Differing]] = [
        Column("row", lambda row: row.id),
        Column("label", lambda row: row.label),
        Column(first, of_run(0)),
        Column(second, of_run(1)),
        number("p(label) first", share(0), "{:.2f}".format),
        number("p(label) second", share(1), "{:.2f}".format),
    ]
    if any(row.text for row in found):
        columns.append(Column("text", lambda row: row.text and " ".join(row.text.split())[:200]))
    title = f"the {min(num_rows, len(found))} of {len(found)} differing rows where they are furthest apart"
    return Table(title=title, columns=columns, rows=found[:num_rows])
