"""The score of a trained learner on a part of a run's rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from softcue.data.run_data import Part, RunData
from softcue.evaluation.metrics import mean_metrics
from softcue.runs.store import RunFolder
from softcue.training.learner import Learner

log = logging.getLogger(__name__)


def score(learner: Learner, data: RunData, folder: RunFolder, part: Part) -> dict[str, dict[str, float]]:
    """Predict a part's rows, write the predictions and compute metrics, if the rows have labels.

    The metrics are those of the part and, with several tasks, of each task, as in `test/apple`; those of
    the part are then the mean over tasks.
    """
    by_task: dict[str, dict[str, float]] = {}
    several = len(data.tasks) > 1
    for name, task in data.tasks.items():
        rows, classes = learner.predict(task, part), task.task.classes
        file_name = f"{part}_{name}" if several else part
        folder.write_predictions(part=file_name, columns=rows.columns(classes, task.ids(part)))
        if part != "unlabelled":
            by_task[name] = rows.metrics(classes)
            _log(file_name, by_task[name])
    if not by_task:
        return {}
    mean = mean_metrics(list(by_task.values()))
    learner.log({f"{part}/{name}": value for name, value in mean.items()})
    if not several:
        return {part: mean}
    _log(f"{part}, mean of {len(by_task)} tasks", mean)
    return {part: mean, **{f"{part}/{name}": metrics for name, metrics in by_task.items()}}


def _log(rows: str, metrics: Mapping[str, float]) -> None:
    log.info("%s: macro-F1 %.3f, accuracy %.3f", rows, metrics["macro_f1"], metrics["accuracy"])
