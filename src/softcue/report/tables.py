"""A comparison as tables, each of its columns declared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from softcue.report.claims import bracket, signed
from softcue.report.model import BestOfK, Cell, CellScore, Comparison, Cost, Pair, TaskComparison, short_names
from softcue.runs.metrics import Metric
from softcue.tables.table import CellText, Column, Table, duration, memory, number


@dataclass(frozen=True, kw_only=True)
class Row:
    """A cell in its task."""

    task: TaskComparison
    cell: Cell


def cells_table(comparison: Comparison, task: TaskComparison) -> Table[Row]:
    """The cells of one task, the best first."""
    rows = [Row(task=task, cell=cell) for cell in task.cells]
    return Table(
        title=" · ".join(words for words in (task.task, ", ".join(task.backbones), comparison.part) if words),
        columns=cell_columns(comparison, task.settings),
        rows=rows,
        caption=_caption(task, comparison.sort_by),
    )


def all_cells_table(comparison: Comparison) -> Table[Row]:
    """The cells of all tasks as one table, for CSV."""
    settings = dict.fromkeys(path for task in comparison.tasks for path in task.settings)
    task: Column[Row] = Column("task", lambda row: row.task.task)
    return Table(
        columns=[task, *cell_columns(comparison, tuple(settings))],
        rows=[Row(task=of, cell=cell) for of in comparison.tasks for cell in of.cells],
    )


def cell_columns(comparison: Comparison, settings: Sequence[str]) -> list[Column[Row]]:
    """Every column from left to right: method, settings, runs, metrics, verdict, costs."""
    sort_by = comparison.sort_by
    others = [metric for metric in comparison.metrics if metric.name != sort_by.name]
    placed = comparison.metrics if len(others) < len(comparison.metrics) else (sort_by, *others)
    return [
        Column("method", lambda row: row.cell.method),
        *_if_any(
            comparison, lambda cell: cell.origin, Column("theirs", lambda row: row.cell.origin, name="origin")
        ),
        *(
            Column(heading, partial(_setting, path), name=path)
            for path, heading in short_names(settings).items()
        ),
        number("runs", lambda row: len(row.cell.runs)),
        *(_metric_column(metric, with_interval=metric.name == sort_by.name) for metric in placed),
        Column("", _verdict, name="against_best"),
        _cost("trainable parameters", "trainable_parameters", "{:,}".format),
        _cost("training time", "train_s", duration),
        _cost("peak memory", "process_memory_mb", memory),
        *_if_any(
            comparison,
            lambda cell: cell.cost.gpu_memory_mb,
            _cost("peak GPU memory", "gpu_memory_mb", memory),
        ),
    ]


def pairs_table(task: TaskComparison, metric: Metric) -> Table[Pair]:
    """Every pair of a task's cells that was compared."""

    def label(key: Callable[[Pair], str]) -> Callable[[Pair], str]:
        return lambda pair: task.by_key[key(pair)].label

    columns: list[Column[Pair]] = [
        Column("first", label(lambda pair: pair.first)),
        Column("second", label(lambda pair: pair.second)),
        number("difference", lambda pair: pair.difference, partial(signed, metric)),
        Column(
            "interval",
            lambda pair: pair.interval,
            partial(bracket, metric),
            align="right",
            name="difference",
            fields=lambda interval: {
                "_low": interval.low if interval else None,
                "_high": interval.high if interval else None,
            },
        ),
        number("p", lambda pair: pair.p, _p),
        number("p Holm", lambda pair: pair.p_holm, _p, name="p_holm"),
        number("p rows", lambda pair: pair.p_rows, _p, name="p_rows"),
        number("p seeds", lambda pair: pair.p_seeds, _p, name="p_seeds"),
        number("McNemar", lambda pair: pair.mcnemar and pair.mcnemar.p, _p, name="p_mcnemar"),
        number(
            "P(first better)", lambda pair: pair.probability_of_improvement, "{:.2f}".format, name="p_better"
        ),
        number("rows needed", lambda pair: pair.power and pair.power.rows, "{:,}".format, name="rows_needed"),
        number(
            "runs needed", lambda pair: pair.power and pair.power.seeds, "{:,}".format, name="runs_needed"
        ),
    ]
    caption = (
        "Intervals: 95 %. p: for new runs on new rows; Holm: adjusted for all pairs shown; rows: these runs "
        "on other rows; seeds: sign flips over runs. Needed: for power 0.8 at the difference measured."
    )
    title = f"{task.task}: pairs by {metric.title}"
    return Table(title=title, columns=columns, rows=task.pairs, caption=caption)


def trials_table(comparison: Comparison) -> Table[tuple[BestOfK, int]]:
    """What the best of k trials is worth, for each method with trials that were scored on validation rows."""
    metric = comparison.sort_by
    rows = [(found, k) for task in comparison.tasks for found in task.best_of_k for k in range(found.trials)]
    columns: list[Column[tuple[BestOfK, int]]] = [
        Column("task", lambda row: row[0].task),
        Column("method", lambda row: row[0].method),
        number("trials", lambda row: row[1] + 1, name="k"),
        number("validation", lambda row: row[0].validation[row[1]], metric.text),
        number(comparison.part, lambda row: row[0].shown[row[1]], metric.text),
    ]
    title = f"expected {metric.title} of the best of k trials, chosen by validation rows"
    return Table(title=title, columns=columns, rows=rows)


def ranks_table(comparison: Comparison) -> Table[tuple[str, float]]:
    """Mean ranks over tasks, best first; without rows below five tasks."""
    ranks = comparison.ranks
    columns: list[Column[tuple[str, float]]] = [
        Column("method", lambda row: row[0]),
        number("mean rank", lambda row: row[1], "{:.2f}".format, name="mean_rank"),
    ]
    if ranks is None:
        return Table(title="ranks over tasks", columns=columns, rows=[])
    title = f"ranks over {len(ranks.tasks)} tasks, critical difference {ranks.critical_difference:.2f}"
    return Table(title=title, columns=columns, rows=sorted(ranks.mean_rank.items(), key=lambda row: row[1]))


def score_text(metric: Metric, *, with_interval: bool) -> Callable[[CellScore], CellText]:
    """`0.812`, over several runs `0.812 ± 0.013`, and the interval behind it."""

    def text(score: CellScore) -> tuple[str, ...]:
        spread = () if score.std is None else (f"± {metric.text(score.std)}",)
        ends = score.interval if with_interval else None
        inside = () if ends is None else (bracket(metric, ends),)
        return (metric.text(score.mean), *spread, *inside)

    return text


def score_fields(score: CellScore | None) -> Mapping[str, Any]:
    """A score's CSV fields: the mean under the metric's name, deviation, count, interval and its sources."""
    interval = score.interval if score else None
    return {
        "": score.mean if score else None,
        "_std": score.std if score else None,
        "_n": score.n if score else 0,
        "_low": interval.low if interval else None,
        "_high": interval.high if interval else None,
        "_interval": interval.sources if interval else None,
    }


def _metric_column(metric: Metric, *, with_interval: bool) -> Column[Row]:
    return Column(
        metric.title,
        lambda row: row.cell.scores.get(metric.name),
        score_text(metric, with_interval=with_interval),
        align="right",
        name=metric.name,
        fields=score_fields,
    )


def _cost(heading: str, name: str, text: Callable[[Any], str]) -> Column[Row]:
    def value(row: Row) -> Any:
        cost: Cost = row.cell.cost
        return getattr(cost, name)

    return number(heading, value, text, name=name)


def _if_any(
    comparison: Comparison, value: Callable[[Cell], object], column: Column[Row]
) -> list[Column[Row]]:
    return [column] if any(value(cell) for task in comparison.tasks for cell in task.cells) else []


def _setting(path: str, row: Row) -> str | None:
    return row.cell.settings.get(path)


def _verdict(row: Row) -> str | None:
    if row.cell is row.task.best:
        return "best" if len(row.task.cells) > 1 else None
    return {None: None, True: "behind", False: "≈ best"}[row.cell.distinguishable]


def _count(needed: int) -> str:
    return f"{needed:,}"


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _caption(task: TaskComparison, metric: Metric) -> str:
    sentences = []
    if any(score.n > 1 for cell in task.cells for score in cell.scores.values()):
        sentences.append("Over runs: mean ± sample standard deviation; times and memory are means.")
    if any(metric.name in cell.scores and cell.scores[metric.name].interval for cell in task.cells):
        sentences.append("In brackets: the mean's 95 % interval, for new runs on new rows.")
    if task.pairs:
        sentences.append("≈ best: no significant difference from the best at .05 after Holm.")
    return " ".join(sentences)
