"""Run records to the rows of one comparison: runs that differ only in their seed share a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from softcue.runs.identity import identity
from softcue.runs.record import RunRecord

_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """The mean of n numbers and their sample standard deviation, None for a single one."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of doing the task over `runs` seeds; None where no run has the number.

    `differences` are the settings, `path=value`, that tell it from the method's other rows.
    """

    method: str
    differences: tuple[str, ...]
    runs: int
    trainable: int | None
    accuracy: Statistic | None
    macro_f1: Statistic | None
    auroc: Statistic | None
    train_s: Statistic | None
    peak_memory_mb: Statistic | None

    @property
    def label(self) -> str:
        """The row's name on one line."""
        return ", ".join([self.method, *self.differences])


def comparison_rows(records: Iterable[RunRecord], *, part: str) -> list[Row]:
    """The complete runs by method and settings, best mean macro-F1 on `part` first.

    Rows of one method are told apart by the settings in which they differ.
    """
    groups: dict[str, list[RunRecord]] = {}
    variants: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.status == "complete":
            variant = _variant(record)
            key = json.dumps(variant, sort_keys=True)
            variants.setdefault(key, variant)
            groups.setdefault(key, []).append(record)
    differing = _differing_paths(variants.values())
    rows = [
        _row(group, _differences(variants[key], differing[group[0].method]), part=part)
        for key, group in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.macro_f1.mean if row.macro_f1 else float("inf"))


def unfinished(records: Iterable[RunRecord]) -> list[str]:
    """One line for each run that failed, with its error, or has not ended."""
    lines = []
    for record in records:
        name = f"{record.method}, seed {record.seed} ({record.run_id})"
        if record.error is not None:
            lines.append(f"failed: {name}: {record.error.type}: {' '.join(record.error.message.split())}")
        elif record.status != "complete":
            lines.append(f"{record.status}: {name}, started {record.started_at}")
    return lines


def statistic(values: Iterable[float | None]) -> Statistic | None:
    """Mean and sample standard deviation of the values that are there."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return Statistic(mean=fmean(present), std=stdev(present) if len(present) > 1 else None, n=len(present))


def _row(group: Sequence[RunRecord], differences: tuple[str, ...], *, part: str) -> Row:
    metrics = [record.metrics.get(part, {}) for record in group]
    return Row(
        method=group[0].method,
        differences=differences,
        runs=len(group),
        trainable=group[0].parameters.trainable if group[0].parameters else None,
        accuracy=statistic(of_run.get("accuracy") for of_run in metrics),
        macro_f1=statistic(of_run.get("macro_f1") for of_run in metrics),
        auroc=statistic(of_run.get("auroc") for of_run in metrics),
        train_s=statistic(record.times.train_s if record.times else None for record in group),
        peak_memory_mb=statistic(
            record.peak_memory_mb.process if record.peak_memory_mb else None for record in group
        ),
    )


def _variant(record: RunRecord) -> dict[str, Any]:
    """All that must agree for two runs to be one thing tried with two seeds, by dotted path."""
    counted = identity(record.settings)
    settings = {path: value for path, value in counted.items() if path.split(".")[-1] != "seed"}
    facts = {"method": record.method, "task": record.task, "backbone": record.backbone}
    return {**facts, **settings, "data_fingerprint": record.data_fingerprint}


def _differing_paths(variants: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """For each method the paths on which its rows do not all agree; a null is not an absent setting."""
    first: dict[str, Mapping[str, Any]] = {}
    differing: dict[str, set[str]] = {}
    for variant in variants:
        other = first.setdefault(variant["method"], variant)
        paths = variant.keys() | other.keys()
        differing.setdefault(variant["method"], set()).update(
            path for path in paths if variant.get(path, _ABSENT) != other.get(path, _ABSENT)
        )
    return differing


def _differences(variant: Mapping[str, Any], differing: set[str]) -> tuple[str, ...]:
    return tuple(f"{path}={value}" for path, value in variant.items() if path in differing)
