"""The scores of a trained learner on the parts of a run's rows, under each of the run's scorings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Part, Rows, RunData
from softcue.evaluation.metrics import mean_metrics
from softcue.evaluation.predictions import Predictions
from softcue.evaluation.scoring import Scoring
from softcue.runs.record import Calibration
from softcue.runs.store import RunFolder
from softcue.training.learner import Learner

log = logging.getLogger(__name__)

Predict = Callable[[Rows], list[Predictions]]
"""The predictions for rows under each scoring, before calibration: one pass of the model at most."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics by part and calibrations by task; the parts and tasks of further scorings have a suffix."""

    metrics: dict[str, dict[str, float]]
    calibrations: dict[str, Calibration]


def evaluate(
    learner: Learner,
    data: RunData,
    folder: RunFolder,
    *,
    parts: Sequence[Part],
    scoring: Scoring,
    known: Mapping[str, Calibration],
) -> Evaluation:
    """Predict the parts, write the predictions and compute the metrics of those with labels.

    `known` calibrations are used as they are; the others are chosen here. With several tasks, the metrics
    are those of each, as in `test/apple`, and those of the part are the mean over tasks.
    """
    scorings = scoring.named
    predicts: dict[str, Predict] = {
        name: cache(partial(_predict, learner, task, tuple(scorings.values())))
        for name, task in data.tasks.items()
    }
    calibrations = {**_calibrations(predicts, scorings, known), **known}
    metrics: dict[str, dict[str, float]] = {}
    for part in parts:
        for at, suffix in enumerate(scorings):
            by_task: dict[str, dict[str, float]] = {}
            for name, task in data.tasks.items():
                rows = predicts[name](part)[at]
                if calibration := calibrations.get(f"{name}{suffix}"):
                    rows = rows.calibrated(calibration)
                file_name = f"{part}{suffix}" if len(predicts) == 1 else f"{part}{suffix}_{name}"
                columns = rows.columns(task.task.classes, ids=task.ids(part), texts=task.texts(part))
                folder.write_predictions(part=file_name, columns=columns)
                if part != "unlabelled":
                    by_task[name] = rows.metrics(task.task.classes, learner.own_metrics)
                    _log(file_name, by_task[name])
            metrics |= _by_part(f"{part}{suffix}", by_task)
        if part in metrics:
            learner.log({f"{part}/{name}": value for name, value in metrics[part].items()})
    return Evaluation(metrics=metrics, calibrations=calibrations)


def _predict(
    learner: Learner, data: PromptData, scorings: tuple[Scoring, ...], rows: Rows
) -> list[Predictions]:
    return learner.predict(data, rows, scorings)


def _calibrations(
    predicts: Mapping[str, Predict], scorings: Mapping[str, Scoring], known: Mapping[str, Calibration]
) -> dict[str, Calibration]:
    """The calibrations of each task that are not known yet, by the task's name with the scoring's suffix."""
    chosen = {}
    for at, (suffix, scoring) in enumerate(scorings.items()):
        for name, predict in predicts.items():
            if scoring.calibration is not None and f"{name}{suffix}" not in known:
                rows = predict(scoring.calibration.rows)[at]
                chosen[f"{name}{suffix}"] = scoring.calibration.fit(rows.probability_BC, rows.target_B)
    return chosen


def _by_part(part: str, by_task: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    if not by_task:
        return {}
    mean = mean_metrics(list(by_task.values()))
    if len(by_task) == 1:
        return {part: mean}
    _log(f"{part}, mean of {len(by_task)} tasks", mean)
    return {part: mean, **{f"{part}/{name}": metrics for name, metrics in by_task.items()}}


def _log(rows: str, metrics: Mapping[str, float]) -> None:
    log.info("%s: macro-F1 %.3f, accuracy %.3f", rows, metrics["macro_f1"], metrics["accuracy"])
