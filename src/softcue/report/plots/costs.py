"""Scores against what they cost, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from softcue.report.model import CellScore, Comparison, TaskComparison
from softcue.report.plots.style import (
    MUTED,
    NotDrawn,
    count_text,
    legend_below,
    looks,
    new_figure,
)
from softcue.runs.metrics import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def against_cost(
    comparison: Comparison, task: TaskComparison, width: float, *, cost: str, name: str
) -> Figure:
    """Each cell's mean with its interval over a cost; the front joins cells that none beats at less."""
    from matplotlib.ticker import LogLocator

    metric = comparison.sort_by
    points = [
        (float(value), cell.scores[metric.name], cell)
        for cell in task.cells
        if metric.name in cell.scores and (value := getattr(cell.cost, cost)) is not None
    ]
    if len(points) < 2:
        raise NotDrawn(f"fewer than two methods have {metric.title} and {name}")
    look, seen = looks(task.cells), set[str]()
    each_its_own = len({one.colour for one in look.values()}) == len(task.cells)
    figure = new_figure(width, 2.3)
    axes = figure.add_subplot()
    front = pareto_front([(value, score.mean) for value, score, _ in points], metric)
    axes.plot(*zip(*front, strict=True), color=MUTED, linewidth=0.8, drawstyle="steps-post", zorder=1)
    for value, score, cell in points:
        one, label = look[cell.key], cell.label if each_its_own else cell.method
        axes.errorbar(
            [value],
            [score.mean],
            yerr=_error(score),
            color=one.colour,
            marker=one.marker,
            elinewidth=1,
            linestyle="none",
            label="_" if label in seen else label,
        )
        seen.add(label)
    costs = [value for value, _, _ in points]
    if min(costs) <= 0:
        axes.set_xscale("symlog", linthresh=1)
    elif max(costs) / min(costs) >= 8:
        axes.set_xscale("log")
        # Over a hundredfold, powers of ten are as many labels as there is room for.
        within = (1, 2, 5) if max(costs) / min(costs) < 100 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=within, numticks=5))
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(count_text)
    axes.grid()
    axes.set(xlabel=name, ylabel=metric.title)
    legend_below(figure, axes)
    return figure


def pareto_front(points: Sequence[tuple[float, float]], metric: Metric) -> list[tuple[float, float]]:
    """The points that no other beats at the same cost or less, from the cheapest."""
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], metric.rank(point[1]))):
        if not front or metric.rank(score) < metric.rank(front[-1][1]):
            front.append((cost, score))
    return front


def _error(score: CellScore) -> list[list[float]] | None:
    if score.interval is None:
        return None
    return [[max(0.0, score.mean - score.interval.low)], [max(0.0, score.interval.high - score.mean)]]
