"""Plots of predictions: calibration curves and confusion matrices, pooled over a cell's runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from softcue.report.model import Cell, Comparison, TaskComparison, TaskRows
from softcue.report.plots.choice import predicting
from softcue.report.plots.style import (
    MUTED,
    PALETTE,
    NotDrawn,
    legend_below,
    looks,
    names_of,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS, MOST_CLASSES, MOST_NUMBERS = 6, 30, 6
BINS, LEAST_IN_BIN = 10, 10


def calibration_curves(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """Accuracy over the probability of the predicted class, in ten bins; the diagonal is right."""
    rows, cells = _predicted(task)
    look = looks(task.cells)
    figure = new_figure(width, min(0.72 * width, 3.6))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=(0, (2, 3)))
    for cell in cells:
        one = look[cell.key]
        confidence_K, accuracy_K = reliability(cell, rows)
        axes.plot(
            confidence_K,
            accuracy_K,
            color=one.colour,
            marker=one.marker,
            markersize=3.5,
            label=cell.label,
        )
    least = 1 / len(rows.classes)
    axes.set(xlabel="probability of the predicted class", ylabel="accuracy")
    axes.set(xlim=(max(0, least - 0.05), 1.02), ylim=(0, 1.03))
    axes.grid()
    legend_below(figure, axes)
    return figure


def reliability(cell: Cell, rows: TaskRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean confidence and accuracy of each bin that holds at least ten labelled predictions."""
    confidence, right = [], []
    for run in cell.runs:
        if run.predictions is not None:
            target_B = rows.target_N[run.predictions.row_B]
            labelled_B = target_B >= 0
            confidence.append(run.predictions.confidence_B[labelled_B])
            right.append((run.predictions.predicted_B == target_B)[labelled_B])
    confidence_R, right_R = np.concatenate(confidence), np.concatenate(right)
    bin_R = np.minimum((confidence_R * BINS).astype(int), BINS - 1)
    kept = [index for index in range(BINS) if (bin_R == index).sum() >= LEAST_IN_BIN]
    return (
        np.array([confidence_R[bin_R == index].mean() for index in kept]),
        np.array([right_R[bin_R == index].mean() for index in kept]),
    )


def confusion_matrices(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """For each cell the share of each true class's rows that was predicted as each class."""
    rows, cells = _predicted(task)
    if len(rows.classes) > MOST_CLASSES:
        raise NotDrawn(f"{len(rows.classes)} classes are more than {MOST_CLASSES}")
    across = min(len(cells), 2 if width < 5 else 3)
    down = -(-len(cells) // across)
    names = names_of(cells, 2.2 * width / across)
    lines = max(name.count("\n") + 1 for name in names)
    figure = new_figure(width, 0.5 + down * (0.1 + 0.14 * lines + 0.85 * (width - 0.5) / across))
    grid = np.atleast_2d(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False))
    for axes in grid.flat[len(cells) :]:
        axes.set_axis_off()
    for name, cell, axes in zip(names, cells, grid.flat, strict=False):
        _draw_confusion(axes, confusion(cell, rows), rows.classes)
        axes.set_title(name, color=looks(task.cells)[cell.key].colour, fontsize=7.5)
    figure.supxlabel("predicted", fontsize=8, color=MUTED)
    figure.supylabel("true class", fontsize=8, color=MUTED)
    return figure


def confusion(cell: Cell, rows: TaskRows) -> NDArray[np.float64]:
    """The share of true class (row) that was predicted as class (column), over the cell's runs."""
    count_CC = np.zeros((len(rows.classes), len(rows.classes)))
    for run in cell.runs:
        if run.predictions is not None:
            target_B = rows.target_N[run.predictions.row_B]
            labelled_B = target_B >= 0
            np.add.at(count_CC, (target_B[labelled_B], run.predictions.predicted_B[labelled_B]), 1)
    share_CC: NDArray[np.float64] = count_CC / np.maximum(count_CC.sum(axis=1, keepdims=True), 1)
    return share_CC


def _draw_confusion(axes: Axes, share_CC: NDArray[np.float64], classes: tuple[str, ...]) -> None:
    from matplotlib.patches import Rectangle

    size = len(classes)
    for (row, column), share in np.ndenumerate(share_CC):
        colour = PALETTE[0] if row == column else PALETTE[1]
        axes.add_patch(
            Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, alpha=0.75 * share, linewidth=0)
        )
        if size <= MOST_NUMBERS:
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=7.5 if size < 5 else 6)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    shown = range(size) if size <= 12 else []
    names = [name if len(name) <= 14 else f"{name[:13]}…" for name in classes]
    upright = size <= 3
    axes.set_xticks(
        shown,
        [names[index] for index in shown],
        rotation=0 if upright else 45,
        ha="center" if upright else "right",
        fontsize=6.5,
    )
    axes.set_yticks(
        shown, [names[index] for index in shown], rotation=90 if upright else 0, va="center", fontsize=6.5
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _predicted(task: TaskComparison) -> tuple[TaskRows, Sequence[Cell]]:
    """The rows, and the best cells whose runs predicted rows with a label."""
    rows = task.rows
    if rows is None or not (rows.target_N >= 0).any():
        raise NotDrawn("no run has stored predictions of labelled rows")
    return rows, predicting(task, MOST_CELLS).drawn
