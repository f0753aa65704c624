"""Records to runs: the scores of a part, its predictions, and what they cost and ran on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from softcue.errors import RunError
from softcue.report.cells import REPEATED, Variant, variant
from softcue.report.model import Cost, Curve, Run, RunPredictions
from softcue.report.predictions import RowTable
from softcue.report.sources import Source
from softcue.runs.curve import CURVE, read_curve
from softcue.runs.record import RunRecord

BYTES_OF_A_NUMBER = 4
"""Prompts are saved as float32."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A run, and what places it among others."""

    variant: Variant
    run: Run


@dataclass(kw_only=True)
class Collected:
    """All runs so far, the rows of each task, and a line for each file that could not be used."""

    loaded: list[Loaded] = field(default_factory=list)
    tables: dict[str, RowTable] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_runs(
    sources: Sequence[Source], *, part: str, repeated: Sequence[str] = REPEATED, details: bool = False
) -> Collected:
    """The runs that were scored on a part, those on several tasks once for each and once for the mean.

    With `details`, texts and learning curves are read too, where runs have left them.
    """
    collected = Collected()
    for source in sources:
        of_run = variant(source.record, repeated=repeated)
        for scored in _scored_parts(source.record, part):
            predictions = _predictions(source, scored, collected, details=details)
            run = _run(source, scored, predictions, curves=_curves(source, collected) if details else ())
            common = {**of_run.common, "task": scored.task}
            placed = Variant(common=common, replicate=of_run.replicate)
            collected.loaded.append(Loaded(variant=placed, run=run))
    return collected


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A task's name in the report, its key in the record's metrics, and the end of its files' names."""

    task: str
    key: str
    suffix: str | None


def _scored_parts(record: RunRecord, part: str) -> Iterator[_Scored]:
    of_tasks = [key for key in record.metrics if key.startswith(f"{part}/")]
    if part in record.metrics:
        yield _Scored(task=record.task, key=part, suffix=None if of_tasks else part)
    for key in of_tasks:
        name = key.removeprefix(f"{part}/")
        yield _Scored(task=f"{record.task}/{name}", key=key, suffix=f"{part}_{name}")


def _predictions(
    source: Source, scored: _Scored, collected: Collected, *, details: bool
) -> RunPredictions | None:
    path = source.folder / f"predictions_{scored.suffix}.parquet"
    if scored.suffix is None or not path.is_file():
        return None
    table = collected.tables.setdefault(scored.task, RowTable())
    fingerprint = source.record.data_fingerprint
    try:
        predictions = table.read(path, fingerprint=fingerprint)
    except RunError as error:
        collected.notes.append(f"without predictions: {error}")
        return None
    if details and predictions is not None:
        table.read_texts(path, fingerprint=fingerprint)
    return predictions


def _run(
    source: Source, scored: _Scored, predictions: RunPredictions | None, *, curves: tuple[Curve, ...]
) -> Run:
    record = source.record
    scores = record.metrics[scored.key]
    rows = len(predictions.row_B) if predictions else record.num_rows.get(scored.key.partition("/")[0])
    return Run(
        run_id=record.run_id,
        method=record.method,
        task=scored.task,
        replicate={},
        scores={name: value for name, value in scores.items() if value is not None},
        rows=rows,
        predictions=predictions,
        cost=_cost(record),
        facts=_facts(record),
        record=record,
        folder=source.folder,
        curves=curves,
    )


def _cost(record: RunRecord) -> Cost:
    parameters, times, memory = record.parameters, record.times, record.peak_memory_mb
    return Cost(
        trainable_parameters=parameters.trainable if parameters else None,
        shipped_parameters=parameters.shipped if parameters else None,
        total_parameters=parameters.total if parameters else None,
        shipped_bytes=parameters.shipped * BYTES_OF_A_NUMBER if parameters else None,
        train_s=times.train_s if times else None,
        evaluate_s=times.evaluate_s if times else None,
        total_s=times.total_s if times else None,
        process_memory_mb=memory.process if memory else None,
        gpu_memory_mb=memory.gpu if memory else None,
    )


def _facts(record: RunRecord) -> dict[str, str]:
    named = {
        "backbone": record.backbone,
        "dtype": record.dtype,
        "engine": record.engine,
        "cpu": record.hardware.cpu,
        "gpu": record.hardware.gpu,
        "training rows": record.num_rows.get("train"),
        "data": record.data_fingerprint,
    }
    return {**record.versions, **{name: str(value) for name, value in named.items() if value is not None}}


def _curves(source: Source, collected: Collected) -> tuple[Curve, ...]:
    """The columns of a run's learning curve that have numbers; none, with a note, if it is damaged."""
    path = source.folder / CURVE
    if not path.is_file():
        return ()
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        for row in read_curve(path):
            for name in row.keys() - {"step", "epoch"}:
                points.setdefault(name, []).append((float(row["step"]), float(row[name])))
    except RunError as error:
        collected.notes.append(f"without its learning curve: {error}")
    return tuple(
        Curve(name=name, step_S=np.array([x for x, _ in of]), value_S=np.array([y for _, y in of]))
        for name, of in sorted(points.items())
    )
