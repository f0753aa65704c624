"""Plots of differences: the matrix of pairs, and the critical-difference diagram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softcue.report.model import Comparison, Pair, Ranks, TaskComparison
from softcue.report.plots.choice import scored
from softcue.report.plots.style import INK, MUTED, PALETTE, NotDrawn, name_width, names_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CELLS = 8


def difference_matrix(comparison: Comparison, task: TaskComparison, width: float) -> Figure:
    """Row less column for the best cells; coloured where the difference is beyond doubt."""
    cells = scored(comparison, task, MOST_CELLS).drawn
    if len(cells) < 2 or not task.pairs:
        raise NotDrawn("fewer than two methods were compared")
    size = len(cells)
    names = [f"{number}  {name}" for number, name in enumerate(names_of(cells, width), start=1)]
    figure = new_figure(width, 0.3 + size * max(0.32, 0.14 * (1 + max(name.count("\n") for name in names))))
    axes = figure.add_subplot()
    for row, first in enumerate(cells):
        for column, second in enumerate(cells):
            pair = task.pair(first.key, second.key)
            if pair is not None and row < column:
                _draw_pair(axes, row, column, pair, flipped=pair.first != first.key, size=size)
    axes.set(xlim=(0.5, size - 0.5), ylim=(size - 0.5, -0.5))
    axes.set_xticks(range(1, size), [str(number) for number in range(2, size + 1)])
    axes.xaxis.tick_top()
    axes.set_yticks(range(size), names, ha="left", linespacing=1.05)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", pad=name_width(names))
    axes.spines[:].set_visible(False)
    return figure


def _draw_pair(axes: Axes, row: int, column: int, pair: Pair, *, flipped: bool, size: int) -> None:
    from matplotlib.patches import Rectangle

    difference = -pair.difference if flipped else pair.difference
    ahead = pair.better == (pair.second if flipped else pair.first)
    colour = (PALETTE[0] if ahead else PALETTE[1]) if pair.distinguishable else MUTED
    alpha = 0.35 if pair.distinguishable else 0.07
    axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, color=colour, alpha=alpha, linewidth=0))
    axes.text(
        column,
        row,
        f"{difference:+.3f}".replace("+0.", "+.").replace("-0.", "−."),
        ha="center",
        va="center",
        fontsize=7.5 if size < 6 else 6,
        color=INK if pair.distinguishable else MUTED,
        weight="bold" if pair.distinguishable else "normal",
    )


def critical_difference(comparison: Comparison, width: float) -> Figure:
    """Methods on the axis of mean ranks; bars join those within the critical difference (Demšar 2006)."""
    ranks = comparison.ranks
    if ranks is None:
        raise NotDrawn(
            f"mean ranks need five tasks that the same methods ran on, not these {len(comparison.tasks)}"
        )
    placed = sorted(ranks.mean_rank.items(), key=lambda item: item[1])
    left = placed[: -(-len(placed) // 2)]
    right = placed[len(left) :][::-1]
    figure = new_figure(width, 0.75 + 0.22 * len(left) + 0.12 * len(ranks.groups))
    axes = figure.add_subplot()
    depth = 0.8 + 0.45 * len(ranks.groups)
    for side, names in ((1.0, left), (float(len(placed)), right)):
        for index, (name, rank) in enumerate(names):
            _elbow(axes, name, rank, depth + 0.9 * index, side=side, on_left=side == 1.0)
    _bars(axes, ranks, dict(placed))
    axes.set(xlim=(1, len(placed)), ylim=(depth + 0.9 * len(left) - 0.4, -1.4), xlabel="mean rank")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.set_xticks(range(1, len(placed) + 1))
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    return figure


def _elbow(axes: Axes, name: str, rank: float, depth: float, *, side: float, on_left: bool) -> None:
    axes.plot([rank, rank, side], [-1.4, depth, depth], color=MUTED, linewidth=0.8)
    text, ha = (f"{name}  {rank:.2f} ", "right") if on_left else (f" {rank:.2f}  {name}", "left")
    axes.text(side, depth, text, ha=ha, va="center", fontsize=7.5)


def _bars(axes: Axes, ranks: Ranks, rank_of: dict[str, float]) -> None:
    for index, group in enumerate(ranks.groups):
        found = [rank_of[name] for name in group]
        y = -0.1 + 0.45 * index
        axes.plot(
            [min(found) - 0.04, max(found) + 0.04], [y, y], color=INK, linewidth=3, solid_capstyle="butt"
        )
    axes.plot([1, 1 + ranks.critical_difference], [-0.9, -0.9], color=PALETTE[1], linewidth=1.5)
    words = f" critical difference {ranks.critical_difference:.2f}"
    axes.text(1 + ranks.critical_difference, -0.9, words, va="center", fontsize=6.5, color=MUTED)
