"""Signs that a run has not learnt, from the files that it leaves; each with the setting to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq

from softcue.errors import RunError
from softcue.runs.curve import CURVE, read_curve
from softcue.runs.identity import identity
from softcue.runs.record import RunRecord
from softcue.runs.store import list_records

LEAST_FALL = 0.02
"""A training loss that falls by a smaller share, from the first epoch to the last, is flat."""
RATES = ("prompt.learning_rate", "optimizer.lr")
SCORE = "macro_f1"


@dataclass(frozen=True, kw_only=True)
class Symptom:
    """One check of a run, and its result."""

    name: str
    measured: str
    """What was found, with its number."""
    is_found: bool
    """Whether it is a sign that the run has not learnt."""
    way_out: str
    """The setting to try."""


def of_files(folder: Path, record: RunRecord) -> list[Symptom]:
    """The signs in a complete run's predictions and curve; none for what the run does not have."""
    signs = [one_class(folder, record), flat_loss(folder, record)]
    return [sign for sign in signs if sign is not None]


def one_class(folder: Path, record: RunRecord) -> Symptom | None:
    """Whether test rows of several classes are all predicted alike; None without classes or test rows."""
    path = folder / "predictions_test.parquet"
    if SCORE not in record.metrics.get("test", {}) or not path.is_file():
        return None
    try:
        table = pq.read_table(path, columns=["predicted", "label"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged ({error}); delete the folder to train again.") from error
    predicted, labels = (table.column(name).to_pylist() for name in ("predicted", "label"))
    counts = {name: predicted.count(name) for name in dict.fromkeys(predicted)}
    most = max(counts, key=lambda name: counts[name])
    return Symptom(
        name="predicted classes",
        measured=f"{most!r} for {counts[most]} of {len(predicted)} test rows",
        is_found=len(counts) == 1 and len(set(labels)) > 1,
        way_out="objective=choice, scoring=batch, or prompt/initialiser=class_labels",
    )


def flat_loss(folder: Path, record: RunRecord) -> Symptom | None:
    """Whether the training loss did not fall; None without the curve of two epochs or more."""
    path = folder / CURVE
    if record.training is None or not path.is_file():
        return None
    losses = [float(row["train/loss"]) for row in read_curve(path) if "train/loss" in row]
    if len(losses) < 2:
        return None
    first, last, rate = losses[0], losses[-1], _rate(record.settings)
    way_out = "a larger trainer.max_epochs"
    if rate:
        way_out = f"prompt.learning_rate={rate / 10 if last > first else rate * 10:g}"
    return Symptom(
        name="training loss",
        measured=f"{first:.4g} in the first epoch, {last:.4g} in the last",
        is_found=last > first * (1 - LEAST_FALL),
        way_out=way_out,
    )


def rate_at_edge(folder: Path, record: RunRecord) -> Symptom | None:
    """Whether the best learning rate tried is the lowest or highest, or another than this run's.

    The runs beside this one count that differ from it in nothing but their rates and seeds; None if these
    have but one rate.
    """
    own = _apart_from_rate(record.settings)
    scores: dict[float, list[float]] = {}
    for other in list_records(folder.parent).records:
        score = other.metrics.get("validation", other.metrics.get("test", {})).get(SCORE)
        tried = _rate(other.settings)
        if tried and score is not None and _apart_from_rate(other.settings) == own:
            scores.setdefault(tried, []).append(score)
    rate = _rate(record.settings)
    if rate is None or len(scores) < 2:
        return None
    means = {rate: fmean(found) for rate, found in scores.items()}
    best, rates = max(means, key=lambda rate: means[rate]), sorted(means)
    listed = ", ".join(f"{one:g} ({means[one]:.3f})" for one in rates)
    beyond = {rates[0]: rates[0] / 3, rates[-1]: rates[-1] * 3}.get(best, best)
    return Symptom(
        name="learning rate",
        measured=f"{rate:g}; tried, with macro-F1: {listed}",
        is_found=best != rate or best in (rates[0], rates[-1]),
        way_out=f"prompt.learning_rate={beyond if best == rate else best:g}",
    )


def shared_label_tokens(choices: Sequence[Sequence[int]], words: Sequence[str]) -> Symptom:
    """Whether the labels of all classes begin with the same token, which then tells nothing apart."""
    shared = 0
    while all(len(label) > shared for label in choices) and len({label[shared] for label in choices}) == 1:
        shared += 1
    return Symptom(
        name="label tokens",
        measured=f"{shared} at the start of all labels ({', '.join(words)})",
        is_found=shared > 0,
        way_out="data.task.verbalizer with words that differ in their first token",
    )


def _rate(settings: Mapping[str, Any]) -> float | None:
    """None for a search without gradients."""
    rate: float | None = settings["optimizer"].get("lr")
    return rate


def _apart_from_rate(settings: Mapping[str, Any]) -> dict[str, Any]:
    counted = identity(settings)
    return {path: value for path, value in counted.items() if path not in (*RATES, "seed", "split.seed")}
