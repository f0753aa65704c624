"""Learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softcue.report.model import Cell, Comparison, Curve, TaskComparison
from softcue.report.plots.choice import logged
from softcue.report.plots.style import NotDrawn, legend_below, looks, new_figure
from softcue.runs.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS, MOST_PANELS, MOST_POINTS = 8, 2, 120
LOSSES = ("train/loss", "validation/loss", "train/loss_step")


def learning_curves(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """A panel for each logged number: each cell's mean over its runs, and their range as a band."""
    cells = logged(task, MOST_CELLS).drawn
    present = {
        curve.name for cell in cells for run in cell.runs for curve in run.curves if len(curve.step_S) > 1
    }
    wanted = [f"validation/{comparison.sort_by.name}", *LOSSES]
    names = [name for name in wanted if name in present]
    if "train/loss" in names and "train/loss_step" in names:
        names.remove("train/loss_step")
    if not names:
        raise NotDrawn("no run's folder holds a learning curve (metrics.csv)")
    names, look = names[:MOST_PANELS], looks(task.cells)
    figure = new_figure(width, 0.4 + 1.6 * len(names))
    panels = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    for name, axes in zip(names, panels, strict=True):
        for cell in cells:
            _draw(axes, cell, name, look[cell.key].colour)
        axes.set(ylabel=_title(name))
        axes.grid(axis="y")
    panels[-1].set(xlabel="training step")
    legend_below(figure, panels[0])
    return figure


def _draw(axes: Axes, cell: Cell, name: str, colour: str) -> None:
    curves = [curve for run in cell.runs for curve in run.curves if curve.name == name and len(curve.step_S)]
    if not curves:
        return
    step_G, value_CG = on_one_grid(curves)
    axes.plot(step_G, value_CG.mean(axis=0), color=colour, label=cell.label)
    if len(curves) > 1:
        axes.fill_between(
            step_G, value_CG.min(axis=0), value_CG.max(axis=0), color=colour, alpha=0.13, linewidth=0
        )


def on_one_grid(curves: list[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps that all C curves reach, and the curves' values there, between their points by lines."""
    last = min(curve.step_S[-1] for curve in curves)
    first = max(curve.step_S[0] for curve in curves)
    step_G = np.unique(np.concatenate([curve.step_S for curve in curves]))
    step_G = step_G[(step_G >= min(first, last)) & (step_G <= last)]
    if len(step_G) > MOST_POINTS:
        step_G = np.linspace(step_G[0], step_G[-1], MOST_POINTS)
    return step_G, np.stack([np.interp(step_G, curve.step_S, curve.value_S) for curve in curves])


def _title(name: str) -> str:
    part, _, number = name.partition("/")
    metric = METRICS.get(number)
    return f"{part} {metric.title if metric else number.replace('_', ' ')}"
