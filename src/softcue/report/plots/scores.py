"""Plots of scores: the forest plot, and a metric against a setting."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from softcue.report.model import Cell, CellScore, Comparison, TaskComparison, short_names
from softcue.report.plots.choice import scored
from softcue.report.plots.style import (
    MUTED,
    PAPER,
    NotDrawn,
    legend_below,
    looks,
    name_width,
    names_of,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 40


def forest(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """A row for each cell, the best on top: its runs, their mean, and the mean's interval."""
    metric = comparison.sort_by
    cells = scored(comparison, task, MOST_ROWS).drawn
    if not cells:
        raise NotDrawn(f"no run has {metric.title}")
    names, look = names_of(cells, width), looks(task.cells)
    lines = [name.count("\n") + 1 for name in names]
    least = 0.27 if width < 5 or len(cells) > 8 else 0.4
    figure = new_figure(width, 0.5 + sum(max(least, 0.05 + 0.14 * count) for count in lines))
    axes = figure.add_subplot()
    for y, cell in enumerate(cells):
        _forest_row(axes, y, cell, cell.scores[metric.name], look[cell.key].colour)
    axes.axvline(
        cells[0].scores[metric.name].mean, color=MUTED, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0
    )
    axes.grid(axis="x")
    axes.set(ylim=(len(cells) - 0.45, -0.55), xlabel=metric.title)
    axes.set_yticks(range(len(cells)), names, ha="left", linespacing=1.05)
    axes.tick_params(axis="y", length=0, pad=name_width(names))
    axes.spines["left"].set_visible(False)
    values = axes.twinx()
    values.set_ylim(axes.get_ylim())
    values.set_yticks(
        range(len(cells)), [_value(cell.scores[metric.name], metric.text, width) for cell in cells]
    )
    values.tick_params(length=0)
    values.spines[:].set_visible(False)
    return figure


def _forest_row(axes: Axes, y: float, cell: Cell, score: CellScore, colour: str) -> None:
    if score.n > 1:
        axes.plot(score.values, [y + 0.24] * score.n, "o", color=colour, alpha=0.45, markersize=2.2, mew=0)
    if score.interval is not None:
        ends = [score.interval.low, score.interval.high]
        axes.plot(ends, [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
    # Filled: nobody is known to be better. Square: somebody else's result.
    filled = cell.distinguishable is not True
    axes.plot(
        [score.mean],
        [y],
        "s" if cell.theirs else "o",
        markerfacecolor=colour if filled else PAPER,
        markeredgecolor=colour,
        markeredgewidth=1.3,
        markersize=5.5,
    )


def _value(score: CellScore, text: Callable[[float], str], width: float) -> str:
    if score.interval is None or width < 5:
        return text(score.mean)
    return f"{text(score.mean)}  [{text(score.interval.low)}, {text(score.interval.high)}]"


def against_setting(
    comparison: Comparison, task: TaskComparison, width: float, *, paths: Sequence[str], name: str
) -> Figure:
    """A line for each method over a setting's values, with the interval of each mean as a band."""
    metric = comparison.sort_by
    lines = _lines(task, paths, metric.name)
    if not lines:
        raise NotDrawn(f"{name} does not vary within a method")
    look = looks(task.cells)
    figure = new_figure(width, 2.2)
    axes = figure.add_subplot()
    for label, points in lines.items():
        one = look[points[0][1].key]
        x = [value for value, _ in points]
        scores = [cell.scores[metric.name] for _, cell in points]
        axes.plot(x, [score.mean for score in scores], color=one.colour, marker=one.marker, label=label)
        low = [score.interval.low if score.interval else score.mean for score in scores]
        high = [score.interval.high if score.interval else score.mean for score in scores]
        axes.fill_between(x, low, high, color=one.colour, alpha=0.15, linewidth=0)
    values = sorted({value for points in lines.values() for value, _ in points})
    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log")
    if len(values) <= 7:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y")
    axes.set(xlabel=name, ylabel=metric.title)
    legend_below(figure, axes)
    return figure


def _lines(task: TaskComparison, paths: Sequence[str], metric: str) -> dict[str, list[tuple[float, Cell]]]:
    """For each method, with its other settings, the cells by the value of the first path that it varies."""
    found: dict[str, list[tuple[float, Cell]]] = {}
    same = {path for path in task.settings if len({cell.settings.get(path) for cell in task.cells}) == 1}
    for cell in task.cells:
        path = next((path for path in paths if path in cell.settings), None)
        value = setting_number(cell.settings[path]) if path else None
        if value is not None and metric in cell.scores:
            names = short_names(cell.settings)
            others = [
                f"{names[key]}={text}" for key, text in cell.settings.items() if key not in {path, *same}
            ]
            found.setdefault(", ".join([cell.method, *others]), []).append((value, cell))
    return {
        label: sorted(points, key=lambda point: point[0])
        for label, points in found.items()
        if len({value for value, _ in points}) > 1
    }


def setting_number(text: str) -> float | None:
    """A setting's value as a number; a layout's is its number of virtual tokens."""
    slots = re.findall(r"\[soft:(\d+)\]", text)
    if slots:
        return float(sum(map(int, slots)))
    try:
        return float(text)
    except ValueError:
        return None
