"""The page's tables: texts, and the values that they are sorted by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from softcue.report.model import Cell, Comparison, Interval, Pair, Run, TaskComparison, short_names
from softcue.report.plots.style import PALETTE, looks
from softcue.runs.metrics import Metric
from softcue.tables.table import MISSING, duration, memory


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell of a table: its text, a smaller text after it, the value to sort by, a colour's number."""

    text: str
    detail: str = ""
    sort: str | float = ""
    colour: int | None = None


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A column's heading; numbers are on the right."""

    text: str
    number: bool = False
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table that the page's script sorts and filters."""

    headings: Sequence[Heading]
    lines: Sequence[Sequence[Entry]]


NOTHING = Entry(text=MISSING)


def without_empty(headings: Sequence[Heading], lines: Sequence[Sequence[Entry]]) -> Grid:
    """A table less the columns in which no line has anything."""
    kept = [at for at in range(len(headings)) if any(line[at] is not NOTHING for line in lines)]
    return Grid(headings=[headings[at] for at in kept], lines=[[line[at] for at in kept] for line in lines])


def cells_grid(comparison: Comparison, task: TaskComparison) -> Grid:
    """A line for each cell: method, settings, metrics, how it stands to the best, costs."""
    headings = [
        Heading(text="method"),
        *(Heading(text=name, explanation=path) for path, name in short_names(task.settings).items()),
        Heading(text="runs", number=True),
        *(
            Heading(text=metric.title, number=True, explanation="mean over runs, and its 95 % interval")
            for metric in comparison.metrics
        ),
        Heading(
            text="against the best",
            explanation=f"by {comparison.sort_by.title}, after Holm; ≈ best: no significant difference",
        ),
        Heading(text="trainable", number=True, explanation="trainable parameters"),
        Heading(text="shipped", number=True, explanation="bytes of the shipped prompt"),
        Heading(text="training", number=True, explanation="mean training time of a run"),
        Heading(text="memory", number=True, explanation="mean peak memory of the process"),
        Heading(text="GPU memory", number=True, explanation="mean peak memory of the GPU"),
    ]
    colour = {key: PALETTE.index(look.colour) for key, look in looks(task.cells).items()}
    return without_empty(
        headings=headings,
        lines=[
            [
                Entry(text=cell.method, detail="theirs" if cell.theirs else "", colour=colour[cell.key]),
                *(_setting(cell.settings.get(path)) for path in task.settings),
                Entry(text=str(len(cell.runs)), sort=len(cell.runs)),
                *(_score(cell, metric) for metric in comparison.metrics),
                _standing(cell, best=cell is task.best),
                _cost(cell.cost.trainable_parameters, "{:,.0f}".format),
                _cost(cell.cost.shipped_bytes, "{:,.0f}".format),
                _cost(cell.cost.train_s, duration),
                _cost(cell.cost.process_memory_mb, memory),
                _cost(cell.cost.gpu_memory_mb, memory),
            ]
            for cell in task.cells
        ],
    )


def _setting(text: str | None) -> Entry:
    return NOTHING if text is None else Entry(text=text, sort=text)


def _score(cell: Cell, metric: Metric) -> Entry:
    score = cell.scores.get(metric.name)
    if score is None:
        return NOTHING
    return Entry(text=metric.text(score.mean), detail=_interval(score.interval, metric), sort=score.mean)


def _interval(interval: Interval | None, metric: Metric) -> str:
    return f"[{metric.text(interval.low)}, {metric.text(interval.high)}]" if interval else ""


def _standing(cell: Cell, *, best: bool) -> Entry:
    if best:
        return Entry(text="best", sort=0)
    if cell.distinguishable is None:
        return NOTHING
    return Entry(text="behind", sort=2) if cell.distinguishable else Entry(text="≈ best", sort=1)


def _cost(value: float | None, text: Callable[[float], str]) -> Entry:
    return NOTHING if value is None else Entry(text=text(value), sort=value)


def pairs_grid(comparison: Comparison, task: TaskComparison) -> Grid:
    """A line for each pair of cells: difference, tests, and what would settle it."""
    metric = comparison.sort_by
    return without_empty(
        headings=[
            Heading(text="first"),
            Heading(text="second"),
            Heading(text="difference", number=True, explanation=f"{metric.title}, first less second"),
            Heading(text="p", number=True, explanation="that the difference is 0 for new runs on new rows"),
            Heading(text="p, Holm", number=True, explanation="adjusted for all pairs of this table"),
            Heading(
                text="improves",
                number=True,
                explanation="probability that a run of the first is better than one of the second",
            ),
            Heading(text="rows to settle", number=True, explanation="test rows, with as many runs as now"),
            Heading(text="runs to settle", number=True, explanation="runs of each, with as many rows as now"),
        ],
        lines=[_pair(pair, task, metric) for pair in task.pairs],
    )


def _pair(pair: Pair, task: TaskComparison, metric: Metric) -> list[Entry]:
    first, second = task.by_key[pair.first].label, task.by_key[pair.second].label
    rows, seeds = (pair.power.rows, pair.power.seeds) if pair.power else (None, None)
    return [
        Entry(text=first, sort=first),
        Entry(text=second, sort=second),
        Entry(
            text=f"{pair.difference:+.3f}".replace("-", "−"),
            detail=_interval(pair.interval, metric).replace("-", "−"),
            sort=pair.difference,
        ),
        _p_value(pair.p),
        _p_value(pair.p_holm),
        Entry(text=f"{pair.probability_of_improvement:.2f}", sort=pair.probability_of_improvement),
        _cost(rows, "{:,.0f}".format),
        _cost(seeds, "{:,.0f}".format),
    ]


def trials_grid(comparison: Comparison, task: TaskComparison) -> Grid:
    """A line for each method and 1, 2, 4, … and all of its trials: what the best of so many is worth."""
    metric = comparison.sort_by
    return Grid(
        headings=[
            Heading(text="method"),
            Heading(text="trials", number=True),
            Heading(text="validation", number=True, explanation=f"expected {metric.title} of the best"),
            Heading(text=comparison.part, number=True, explanation="the same setting’s, expected"),
        ],
        lines=[
            [
                Entry(text=found.method, sort=found.method),
                Entry(text=str(k), sort=k),
                Entry(text=metric.text(found.validation[k - 1]), sort=found.validation[k - 1]),
                Entry(text=metric.text(found.shown[k - 1]), sort=found.shown[k - 1]),
            ]
            for found in task.best_of_k
            for k in doublings(found.trials)
        ],
    )


def doublings(count: int) -> list[int]:
    """1, 2, 4, … below a count, and the count itself."""
    return [*(2**power for power in range(count.bit_length()) if 2**power < count), count]


def _p_value(p: float | None) -> Entry:
    if p is None:
        return NOTHING
    return Entry(text="< 0.001" if p < 0.001 else f"{p:.3f}", sort=p)


def machines_grid(runs: Sequence[Run]) -> Grid:
    """A line for each combination of model, engine, machine and versions, with its runs."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(_machine(run), []).append(run)
    names = ("model", "machine", "software", "source")
    return Grid(
        headings=[
            Heading(text="runs", number=True),
            Heading(text="methods"),
            *(Heading(text=name) for name in names),
        ],
        lines=[
            [
                Entry(text=str(len(group)), sort=len(group)),
                Entry(text=", ".join(sorted({run.method for run in group}))),
                *(Entry(text=text, sort=text) for text in machine),
            ]
            for machine, group in found.items()
        ],
    )


def _machine(run: Run) -> tuple[str, ...]:
    record = run.record
    if record is None:
        return MISSING, MISSING, MISSING, run.origin
    hardware, git = record.hardware, record.git
    model = [record.backbone, record.dtype, record.engine]
    machine = [hardware.gpu, hardware.cpu, f"{hardware.cores} cores, {hardware.threads} threads"]
    main = ("softcue", "torch", "transformers", "lightning")
    software = [f"{name} {record.versions[name]}" for name in main if name in record.versions]
    source = f"{git.commit[:10]}{' with changes' if git.dirty else ''}" if git else MISSING
    return (
        ", ".join(filter(None, model)) or MISSING,
        ", ".join(filter(None, machine)),
        ", ".join(software),
        source,
    )


def runs_grid(comparison: Comparison, runs: Sequence[Run]) -> Grid:
    """A line for each run."""
    metric = comparison.sort_by
    return Grid(
        headings=[
            Heading(text="run"),
            Heading(text="task"),
            Heading(text="replicate"),
            Heading(text=metric.title, number=True),
            Heading(text="rows", number=True),
            Heading(text="training", number=True),
        ],
        lines=[
            [
                Entry(text=run.run_id, detail="theirs" if run.origin else "", sort=run.run_id),
                Entry(text=run.task, sort=run.task),
                Entry(text=", ".join(f"{name} {value}" for name, value in run.replicate.items()) or MISSING),
                _cost(run.scores.get(metric.name), metric.text),
                _cost(run.rows, "{:,.0f}".format),
                _cost(run.cost.train_s, duration),
            ]
            for run in runs
        ],
    )
