"""The comparison's columns, each declared once, and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from softcue.report.groups import RunGroup
from softcue.runs.metrics import Metric, Statistic
from softcue.tables.table import Column, Table, duration, mean_and_deviation, memory, number, statistic_fields


def comparison(
    groups: Sequence[RunGroup], *, title: str, part: str, metrics: Sequence[Metric], sort_by: Metric
) -> Table[RunGroup]:
    """A row for each group, the best mean of `sort_by` on `part` first, groups without one last."""

    def rank(group: RunGroup) -> float:
        found = group.metric(part, sort_by.name)
        return sort_by.rank(found.mean if found else None)

    repeated = any(len(group.records) > 1 for group in groups)
    caption = "Over seeds: mean ± sample standard deviation; times and memory are means."
    return Table(
        title=title,
        columns=columns(part=part, metrics=metrics),
        rows=sorted(groups, key=rank),
        caption=caption if repeated else "",
    )


def columns(*, part: str, metrics: Sequence[Metric]) -> list[Column[RunGroup]]:
    """Every column from left to right; in CSV a statistic is `name`, `name_std` and `name_n`."""
    return [
        Column("method", lambda group: group.label),
        number("trainable parameters", _trainable, "{:,}".format, name="trainable"),
        *(
            _statistic(
                metric.title,
                partial(RunGroup.metric, part=part, name=metric.name),
                mean_and_deviation(metric.text),
                name=metric.name,
            )
            for metric in metrics
        ),
        _statistic("training time", _train_s, _mean(duration), name="train_s"),
        _statistic("peak memory", _peak_memory, _mean(memory), name="peak_memory_mb"),
    ]


def _statistic(
    heading: str,
    value: Callable[[RunGroup], Statistic | None],
    text: Callable[[Statistic], str | tuple[str, ...]],
    *,
    name: str,
) -> Column[RunGroup]:
    return Column(heading, value, text, align="right", name=name, fields=statistic_fields)


def _mean(form: Callable[[float], str]) -> Callable[[Statistic], str]:
    return lambda statistic: form(statistic.mean)


def _trainable(group: RunGroup) -> int | None:
    parameters = group.records[0].parameters
    return parameters.trainable if parameters else None


def _train_s(group: RunGroup) -> Statistic | None:
    return group.statistic(lambda record: record.times.train_s if record.times else None)


def _peak_memory(group: RunGroup) -> Statistic | None:
    return group.statistic(lambda record: record.peak_memory_mb.process if record.peak_memory_mb else None)
