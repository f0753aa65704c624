"""Run records to the rows of a comparison: runs that differ only in their seed are a group."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from softcue.runs.identity import identity
from softcue.runs.metrics import Statistic, statistic
from softcue.runs.record import RunRecord

_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Complete runs of one method and one choice of settings.

    `differences` are the settings, as `path=value`, in which the method's groups differ.
    """

    method: str
    differences: tuple[str, ...]
    records: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        """The group's name on one line."""
        return ", ".join([self.method, *self.differences])

    def statistic(self, number: Callable[[RunRecord], float | None]) -> Statistic | None:
        """The mean over the runs that have the number; None if none has it."""
        return statistic(map(number, self.records))

    def metric(self, part: str, name: str) -> Statistic | None:
        """The mean of a metric on a part."""
        return self.statistic(lambda record: record.metric(part, name))


def group_runs(records: Iterable[RunRecord]) -> list[RunGroup]:
    """The complete runs by method and settings, in the order of each group's first record."""
    groups: dict[str, list[RunRecord]] = {}
    variants: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.status == "complete":
            variant = _variant(record)
            key = json.dumps(variant, sort_keys=True)
            variants.setdefault(key, variant)
            groups.setdefault(key, []).append(record)
    differing = _differing_paths(variants.values())
    return [
        RunGroup(
            method=group[0].method,
            differences=tuple(
                f"{path}={value}"
                for path, value in variants[key].items()
                if path in differing[group[0].method]
            ),
            records=tuple(group),
        )
        for key, group in groups.items()
    ]


def unfinished(records: Iterable[RunRecord]) -> list[str]:
    """One line for each run that failed, with its error, or has not ended."""
    lines = []
    for record in records:
        name = f"{record.method}, seed {record.seed} ({record.run_id})"
        if record.error is not None:
            lines.append(f"failed: {name}: {record.error.line}")
        elif record.status != "complete":
            lines.append(f"{record.status}: {name}, started {record.started_at}")
    return lines


def _variant(record: RunRecord) -> dict[str, Any]:
    """Everything in which runs of one group agree, by dotted path."""
    counted = identity(record.settings)
    settings = {path: value for path, value in counted.items() if path.split(".")[-1] != "seed"}
    facts = {"method": record.method, "task": record.task, "backbone": record.backbone}
    return {**facts, **settings, "data_fingerprint": record.data_fingerprint}


def _differing_paths(variants: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """For each method the paths in which its groups differ; a null is not an absent setting."""
    first: dict[str, Mapping[str, Any]] = {}
    differing: dict[str, set[str]] = {}
    for variant in variants:
        other = first.setdefault(variant["method"], variant)
        paths = variant.keys() | other.keys()
        differing.setdefault(variant["method"], set()).update(
            path for path in paths if variant.get(path, _ABSENT) != other.get(path, _ABSENT)
        )
    return differing
