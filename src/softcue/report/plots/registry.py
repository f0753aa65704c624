"""Every plot, declared once: its name, its title, what it shows, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from softcue.report.model import Comparison, TaskComparison
from softcue.report.plots import curves, pairs, rows, scores
from softcue.report.plots.choice import Choice, logged, predicting, scored
from softcue.report.plots.costs import against_cost
from softcue.report.plots.curves import learning_curves
from softcue.report.plots.pairs import critical_difference, difference_matrix
from softcue.report.plots.rows import calibration_curves, confusion_matrices
from softcue.report.plots.scores import against_setting, forest
from softcue.report.plots.style import NotDrawn
from softcue.report.plots.trials import best_of_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Section = Literal["scores", "differences", "curves", "costs", "predictions"]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot of one task; `draw` takes the figure's width in inches and raises NotDrawn with a reason.

    `choice` says which cells it draws, None if it leaves none out.
    """

    name: str
    title: str
    caption: str
    section: Section
    draw: Callable[[Comparison, TaskComparison, float], Figure]
    choice: Callable[[Comparison, TaskComparison], Choice] | None = None

    def note(self, comparison: Comparison, task: TaskComparison) -> str:
        """A sentence if the plot draws only the best cells, with the number of all; otherwise empty."""
        return self.choice(comparison, task).note if self.choice else ""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A plot of one task, or of all (`task` is then ""): a figure, or why there is none."""

    plot: Plot
    task: str
    figure: Figure | None
    reason: str
    note: str = ""


FOREST = Plot(
    name="forest",
    title="Scores",
    caption="Small dots are runs, the marker is their mean, the line its 95 % interval. Filled: the best, or "
    "not distinguishable from it. Square: somebody else’s result. The dotted line is the best mean.",
    section="scores",
    draw=forest,
    choice=lambda comparison, task: scored(comparison, task, scores.MOST_ROWS),
)
RANKS = Plot(
    name="critical_difference",
    title="Mean ranks over tasks",
    caption="Methods that a bar joins are not further apart than Nemenyi’s critical difference.",
    section="scores",
    draw=lambda comparison, _, width: critical_difference(comparison, width),
)
BAND = "Means over runs, with 95 % intervals as bands."
FRONT = "Means with 95 % intervals. The line joins those that none beats at the same cost or less."


def _against(name: str, title: str, *paths: str) -> Plot:
    draw = partial(against_setting, paths=paths, name=name)
    return Plot(name=title, title=f"Against the {name}", caption=BAND, section="scores", draw=draw)


def _cost(cost: str, name: str, title: str) -> Plot:
    draw = partial(against_cost, cost=cost, name=name)
    return Plot(name=f"score_by_{title}", title=f"Against {name}", caption=FRONT, section="costs", draw=draw)


PLOTS = (
    FOREST,
    _against("number of virtual tokens", "score_by_prompt_length", "prompt.num_tokens", "prompt.layout"),
    _against("number of labels", "score_by_labels", "split.num_train"),
    _against("learning rate", "score_by_learning_rate", "prompt.learning_rate", "optimizer.lr"),
    Plot(
        name="best_of_trials",
        title="Best of k trials",
        caption="Expected score of the best of k settings, chosen by validation rows; dashed, on those rows.",
        section="scores",
        draw=best_of_trials,
    ),
    Plot(
        name="differences",
        title="Pairwise differences",
        caption="Row less column. Coloured and bold: distinguishable after Holm’s adjustment; blue, the row "
        "is ahead; orange, the column.",
        section="differences",
        draw=difference_matrix,
        choice=lambda comparison, task: scored(comparison, task, pairs.MOST_CELLS),
    ),
    Plot(
        name="learning_curves",
        title="Learning curves",
        caption="Means over runs; the band is their range.",
        section="curves",
        draw=learning_curves,
        choice=lambda _, task: logged(task, curves.MOST_CELLS),
    ),
    _cost("trainable_parameters", "trainable parameters", "trainable_parameters"),
    _cost("shipped_bytes", "shipped bytes", "shipped_bytes"),
    _cost("train_s", "training time (s)", "training_time"),
    _cost("process_memory_mb", "peak memory (MB)", "memory"),
    _cost("gpu_memory_mb", "peak GPU memory (MB)", "gpu_memory"),
    Plot(
        name="calibration",
        title="Calibration",
        caption="Predictions of all runs in ten bins by the probability of the predicted class; bins of "
        "fewer than ten are left out. Under the diagonal is overconfident.",
        section="predictions",
        draw=calibration_curves,
        choice=lambda _, task: predicting(task, rows.MOST_CELLS),
    ),
    Plot(
        name="confusion",
        title="Confusion",
        caption="Of each true class’s rows, the share predicted as each class, over all runs.",
        section="predictions",
        draw=confusion_matrices,
        choice=lambda _, task: predicting(task, rows.MOST_CELLS),
    ),
)


def drawings(comparison: Comparison, width: float) -> Iterator[Drawing]:
    """Every plot, of all tasks together and of each task in turn. Called and used inside `styled()`."""
    if len(comparison.tasks) > 1:
        yield _drawn(RANKS, comparison, comparison.tasks[0], width, name="")
    for task in comparison.tasks:
        for plot in PLOTS:
            yield _drawn(plot, comparison, task, width, name=task.task)


def _drawn(plot: Plot, comparison: Comparison, task: TaskComparison, width: float, *, name: str) -> Drawing:
    try:
        figure, note = plot.draw(comparison, task, width), plot.note(comparison, task)
        return Drawing(plot=plot, task=name, figure=figure, reason="", note=note)
    except NotDrawn as missing:
        return Drawing(plot=plot, task=name, figure=None, reason=str(missing))
