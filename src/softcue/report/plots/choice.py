"""Which cells a plot draws: those that have what it needs, or the best of them if they are too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softcue.report.model import Cell, Comparison, TaskComparison


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The cells that are drawn, and the number of those that could be."""

    drawn: Sequence[Cell]
    possible: int

    @property
    def note(self) -> str:
        """That only the best are drawn; empty if all are."""
        left_out = self.possible > len(self.drawn)
        return f"The best {len(self.drawn)} of {self.possible:,} settings." if left_out else ""


def scored(comparison: Comparison, task: TaskComparison, most: int) -> Choice:
    """Cells with the metric of the sort."""
    return _best([cell for cell in task.cells if comparison.sort_by.name in cell.scores], most)


def predicting(task: TaskComparison, most: int) -> Choice:
    """Cells whose runs have stored predictions."""
    return _best([cell for cell in task.cells if any(run.predictions for run in cell.runs)], most)


def logged(task: TaskComparison, most: int) -> Choice:
    """Cells whose runs have left learning curves."""
    return _best([cell for cell in task.cells if any(run.curves for run in cell.runs)], most)


def _best(cells: Sequence[Cell], most: int) -> Choice:
    return Choice(drawn=cells[:most], possible=len(cells))
