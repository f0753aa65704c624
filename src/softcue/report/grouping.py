"""Loaded runs to cells without scores: which belong together, and what parts a method's cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from softcue.report.cells import differing, short_replicates, text_of
from softcue.report.model import Cell, Cost
from softcue.report.runs import Loaded


def make_cells(
    loaded: Sequence[Loaded], *, columns: Sequence[str] | None
) -> tuple[list[Cell], tuple[str, ...]]:
    """The cells in the order of their first runs, without scores, and the settings that part them."""
    replicates = short_replicates([one.variant.replicate for one in loaded])
    grouped: dict[str, list[tuple[Loaded, dict[str, str]]]] = {}
    for one, replicate in zip(loaded, replicates, strict=True):
        grouped.setdefault(one.variant.key, []).append((one, replicate))
    # Somebody else's runs of a method have none of our settings.
    kin: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for (first, _), *_ in grouped.values():
        kin.setdefault(_kind(first), []).append(first.variant.common)
    paths = {kind: columns or differing(variants) for kind, variants in kin.items()}
    cells = []
    for key, group in grouped.items():
        first, _ = group[0]
        cell = Cell(
            key=key,
            method=first.run.method,
            task=first.run.task,
            settings=_settings(first.variant.common, paths[_kind(first)]),
            runs=tuple(replace(one.run, replicate=replicate) for one, replicate in group),
            scores={},
            cost=mean_cost([one.run.cost for one, _ in group]),
            trials=len(kin[_kind(first)]),
        )
        cells.append(cell)
    return cells, tuple(dict.fromkeys(path for of_kind in paths.values() for path in of_kind))


def _kind(one: Loaded) -> tuple[str, bool]:
    return one.run.method, bool(one.run.origin)


def _settings(common: Mapping[str, Any], paths: Iterable[str]) -> dict[str, str]:
    return {path: text_of(common[path]) for path in paths if path in common}


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """The mean of each cost over the runs that have it; counts are rounded."""

    def mean(name: str) -> float | None:
        values = [value for cost in costs if (value := getattr(cost, name)) is not None]
        return fmean(values) if values else None

    def count(name: str) -> int | None:
        value = mean(name)
        return None if value is None else round(value)

    return Cost(
        trainable_parameters=count("trainable_parameters"),
        shipped_parameters=count("shipped_parameters"),
        total_parameters=count("total_parameters"),
        shipped_bytes=count("shipped_bytes"),
        train_s=mean("train_s"),
        evaluate_s=mean("evaluate_s"),
        total_s=mean("total_s"),
        process_memory_mb=mean("process_memory_mb"),
        gpu_memory_mb=mean("gpu_memory_mb"),
    )
