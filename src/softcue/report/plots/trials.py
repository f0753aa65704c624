"""What the best of k trials is worth, by k."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softcue.report.model import Comparison, TaskComparison
from softcue.report.plots.style import NotDrawn, legend_below, looks, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def best_of_trials(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """For each method the expected score of the best of k settings; dashed on the rows that chose it."""
    from matplotlib.ticker import MaxNLocator

    if not task.best_of_k:
        raise NotDrawn("no method has several settings with scores on validation rows")
    of_cell, look = {cell.method: cell.key for cell in reversed(task.cells)}, looks(task.cells)
    figure = new_figure(width, 2.2)
    axes = figure.add_subplot()
    for found in task.best_of_k:
        one, k = look[of_cell[found.method]], range(1, found.trials + 1)
        marker = one.marker if found.trials <= 12 else ""
        axes.plot(k, found.shown, color=one.colour, marker=marker, label=found.method)
        if comparison.part != "validation":
            axes.plot(k, found.validation, color=one.colour, linestyle=(0, (3, 2)), linewidth=0.9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    axes.set(xlabel="trials", ylabel=comparison.sort_by.title)
    legend_below(figure, axes)
    return figure
