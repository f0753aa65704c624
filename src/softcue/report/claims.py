"""Sentences that the statistics support, no more."""

from __future__ import annotations

from collections.abc import Sequence

from softcue.report.model import Cell, Claim, Interval, Pair, Ranks, TaskComparison
from softcue.runs.metrics import Metric
from softcue.statistics.power import MOST_RUNS

MOST_CELLS_IN_FULL = 4
"""With more cells, claims are about the best alone, and what equals it takes one sentence."""


def task_claims(task: TaskComparison, metric: Metric) -> tuple[Claim, ...]:
    """Who is ahead of whom, and where there is no significant difference, what would show one."""
    tested = [pair for pair in task.pairs if pair.p_holm is not None]
    if not tested:
        return tuple(_alone(cell, metric) for cell in task.cells[:1] if metric.name in cell.scores)
    many = len(task.cells) > MOST_CELLS_IN_FULL
    if many:
        tested = [pair for pair in tested if task.best.key in (pair.first, pair.second)]
    claims = [_ahead(task, pair, metric) for pair in tested if pair.distinguishable]
    undecided = [pair for pair in tested if not pair.distinguishable]
    if many and len(undecided) > 1:
        return (*claims, _many_undecided(task, undecided))
    return (*claims, *(_undecided(task, pair, metric) for pair in undecided))


def rank_claims(ranks: Ranks | None) -> tuple[Claim, ...]:
    """What mean ranks over tasks say."""
    if ranks is None:
        return ()
    ordered = sorted(ranks.mean_rank, key=lambda method: ranks.mean_rank[method])
    first, second = ordered[0], ordered[1]
    gap = ranks.mean_rank[second] - ranks.mean_rank[first]
    verb = "is ahead of" if gap > ranks.critical_difference else "does not differ significantly from"
    text = (
        f"Over {len(ranks.tasks)} tasks, {first} (mean rank {ranks.mean_rank[first]:.2f}) {verb} {second} "
        f"({ranks.mean_rank[second]:.2f}); the critical difference is {ranks.critical_difference:.2f}, and "
        f"Friedman's test of all methods gives {p_text(ranks.p)}."
    )
    return (Claim(text=text, metric=ranks.metric, cells=(), kind="ranks"),)


def signed(metric: Metric, value: float) -> str:
    """A difference with its sign, as tables show numbers: `+0.106`."""
    return format(value, f"+{metric.number_format}")


def bracket(metric: Metric, interval: Interval | None) -> str:
    """An interval as `[0.020, 0.190]`; empty without one."""
    return f"[{metric.text(interval.low)}, {metric.text(interval.high)}]" if interval else ""


def p_text(p: float) -> str:
    """A p-value as `p = .012`, `p < .001`."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _alone(cell: Cell, metric: Metric) -> Claim:
    score = cell.scores[metric.name]
    words = [cell.label, "has", metric.title, metric.text(score.mean), bracket(metric, score.interval)]
    text = f"{' '.join(word for word in words if word)}, {_runs(score.n)}."
    return Claim(text=text, metric=metric.name, cells=(cell.key,), kind="single")


def _ahead(task: TaskComparison, pair: Pair, metric: Metric) -> Claim:
    first, second = (task.by_key[key] for key in (pair.first, pair.second))
    better, worse = (first, second) if pair.better == pair.first else (second, first)
    size = abs(pair.difference)
    interval = pair.interval
    if interval is not None and pair.difference < 0:
        interval = Interval(low=-interval.high, high=-interval.low, sources=interval.sources)
    assert pair.p_holm is not None
    text = (
        f"{better.label} is ahead of {worse.label} by {metric.text(size)} {metric.title} "
        f"{bracket(metric, interval)} ({p_text(pair.p_holm)} after Holm; {_evidence(pair)})."
    )
    return Claim(text=text, metric=metric.name, cells=(better.key, worse.key), kind="ahead")


def _undecided(task: TaskComparison, pair: Pair, metric: Metric) -> Claim:
    first, second = (task.by_key[key] for key in (pair.first, pair.second))
    text = (
        f"{first.label} and {second.label} do not differ significantly with {_evidence(pair)}: the "
        f"difference is {signed(metric, pair.difference)} {bracket(metric, pair.interval)}"
        f"{_alone_or_not(task, pair)}; {settled_by(pair)}."
    )
    return Claim(text=text, metric=metric.name, cells=(first.key, second.key), kind="undecided")


def _alone_or_not(task: TaskComparison, pair: Pair) -> str:
    """Why an interval without 0 is not enough."""
    if pair.p is None or pair.p_holm is None or pair.p >= 0.05:
        return ""
    return f", {p_text(pair.p)} alone and {p_text(pair.p_holm)} among {len(task.pairs)} comparisons"


def settled_by(pair: Pair) -> str:
    """How many rows or runs would show the difference as measured."""
    power = pair.power
    if power is None or (power.rows is None and power.seeds is None):
        if pair.n > 1:
            return f"more than {MOST_RUNS:,} runs each would be needed to show one of that size"
        return "these records do not say how many rows or runs would show one of that size"
    if power.rows is not None and pair.rows is not None and power.rows <= pair.rows:
        return "as many rows and runs again would be likely to show it without the other comparisons"
    rows = f"{power.rows:,} rows" if power.rows is not None else ""
    seeds = f"{power.seeds:,} runs each" if power.seeds is not None else ""
    if rows and seeds:
        return f"if it is that large, {rows} or {seeds} would show it"
    if rows:
        return f"if it is that large, {rows} would show it"
    return f"if it is that large, {seeds} would show it, and no more rows would"


def _many_undecided(task: TaskComparison, pairs: Sequence[Pair]) -> Claim:
    others = [task.by_key[pair.second if pair.first == task.best.key else pair.first] for pair in pairs]
    shown = [cell.label for cell in others[:4]]
    more = f" and {len(others) - 4} more" if len(others) > 4 else ""
    verb = "does" if len(others) == 1 else "do"
    text = (
        f"{len(others)} {verb} not differ significantly from the best, {task.best.label}: "
        f"{'; '.join(shown)}{more}."
    )
    return Claim(
        text=text, metric=pairs[0].metric, cells=tuple(cell.key for cell in others), kind="undecided"
    )


def _evidence(pair: Pair) -> str:
    rows = f" and {pair.rows:,} rows" if pair.rows is not None else ""
    return f"{pair.n} pairs of runs{rows}" if pair.paired and pair.n > 1 else f"{_runs(pair.n)} each{rows}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
