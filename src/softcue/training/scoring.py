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
from softcue.evaluation.texts import Generated
from softcue.runs.metrics import METRICS
from softcue.runs.record import Calibration
from softcue.runs.store import RunFolder
from softcue.training.learner import Learner

log = logging.getLogger(__name__)

SHOWN = ("macro_f1", "accuracy", "answer_match", "exact_match", "rougeL", "perplexity")
"""The first two of these that a part has are logged."""

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
        texts = {name: _texts(learner, task, part) for name, task in data.tasks.items()}
        for at, suffix in enumerate(scorings):
            by_task: dict[str, dict[str, float]] = {}
            for name, task in data.tasks.items():
                if not task.ids(part):
                    continue  # of several tasks, some may have no rows of a part
                rows = predicts[name](part)[at]
                if calibration := calibrations.get(f"{name}{suffix}"):
                    rows = rows.calibrated(calibration)
                file_name = f"{part}{suffix}" if len(predicts) == 1 else f"{part}{suffix}_{name}"
                result = _result(learner, task, part, rows, texts[name])
                folder.write_predictions(part=file_name, columns=result.columns)
                if part != "unlabelled":
                    by_task[name] = result.metrics
                    _log(file_name, by_task[name])
            metrics |= _by_part(f"{part}{suffix}", by_task, num_tasks=len(predicts))
        if part in metrics:
            learner.log({f"{part}/{name}": value for name, value in metrics[part].items()})
    return Evaluation(metrics=metrics, calibrations=calibrations)


@dataclass(frozen=True, kw_only=True)
class _Result:
    """The predictions of one task's rows as columns, and their metrics; none for unlabelled rows."""

    columns: dict[str, list[object]]
    metrics: dict[str, float]


def _texts(learner: Learner, data: PromptData, part: Part) -> Generated | None:
    """What the model writes after each row; None if it is not asked to, or there are no rows."""
    if learner.decoding is None or not data.ids(part):
        return None
    return learner.generate(data, part, learner.decoding)


def _result(
    learner: Learner, data: PromptData, part: Part, rows: Predictions, texts: Generated | None
) -> _Result:
    metrics: dict[str, float] = {}
    written = None if texts is None else list[object](texts.texts)
    is_labelled = part != "unlabelled"
    if is_labelled:
        metrics = rows.metrics(data.task.classes, learner.own_metrics)
    if data.has_texts:
        references = data.references(part)
        columns = rows.text_columns(references, ids=data.ids(part), texts=data.texts(part))
        columns |= {} if written is None else {"predicted": written}
        if texts and is_labelled:
            metrics |= texts.metrics(references, answer_after=data.answer_after)
    else:
        columns = rows.columns(data.task.classes, ids=data.ids(part), texts=data.texts(part))
        columns |= {} if written is None else {"generated": written}
        if texts and is_labelled:
            labels = [data.task.classes[target] for target in data.targets(part)]
            metrics |= texts.label_metrics(labels, data.task.verbalizer)
    return _Result(columns=columns, metrics=metrics)


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


def _by_part(
    part: str, by_task: Mapping[str, dict[str, float]], *, num_tasks: int
) -> dict[str, dict[str, float]]:
    if not by_task:
        return {}
    mean = mean_metrics(list(by_task.values()))
    if num_tasks == 1:
        return {part: mean}
    _log(f"{part}, mean of {len(by_task)} tasks", mean)
    return {part: mean, **{f"{part}/{name}": metrics for name, metrics in by_task.items()}}


def _log(rows: str, metrics: Mapping[str, float]) -> None:
    named = [f"{METRICS[name].title} {metrics[name]:.3f}" for name in SHOWN if name in metrics]
    log.info("%s: %s", rows, ", ".join(named[:2]))
