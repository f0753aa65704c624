"""The rows of a task with what every run predicted for them, small enough to stand in a page.

A class and a probability take a byte each: for every run of every row the predicted class and its
probability, and for every cell of every row the classes with the highest mean probability.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcue.report.model import Cell, Run, TaskComparison, TaskRows, short_names
from softcue.report.plots.style import PALETTE, looks

ABSENT = 255
MOST_CLASSES = 255
TOP = 4


def example_data(task: TaskComparison) -> dict[str, Any] | None:
    """What the page's script reads of a task; None if no run has stored predictions, or of too many classes.

    `top` of a cell has N x K pairs of bytes (class, probability in 255ths), the most likely first, and
    `runs` R x N such pairs; both are base64, and class 255 says that a row was not predicted.
    """
    rows = task.rows
    cells = [cell for cell in task.cells if _predicting(cell)]
    if rows is None or not cells or len(rows.classes) > MOST_CLASSES:
        return None
    look = looks(task.cells)
    return {
        "classes": rows.classes,
        "ids": rows.ids,
        "texts": rows.texts,
        "target": rows.target_N.tolist(),
        "k": min(TOP, len(rows.classes)),
        "cells": [
            {
                "name": cell.label,
                "colour": PALETTE.index(look[cell.key].colour),
                "replicates": [_replicate(run) for run in _predicting(cell)],
                "top": _base64(top_NK2(cell, rows)),
                "runs": _base64(np.stack([_run_N2(run, rows) for run in _predicting(cell)])),
            }
            for cell in cells
        ],
    }


def top_NK2(cell: Cell, rows: TaskRows) -> NDArray[np.uint8]:
    """For each row the K most likely classes by the mean over the cell's runs, with that mean."""
    total_NC = np.zeros((len(rows.ids), len(rows.classes)))
    count_N1 = np.zeros((len(rows.ids), 1))
    for predictions in (run.predictions for run in cell.runs):
        if predictions is not None:
            total_NC[predictions.row_B] += predictions.probability_BC
            count_N1[predictions.row_B] += 1
    mean_NC = total_NC / np.maximum(count_N1, 1)
    class_NK = np.argsort(-mean_NC, axis=1, kind="stable")[:, :TOP]
    probability_NK = np.take_along_axis(mean_NC, class_NK, axis=1)
    class_NK[count_N1[:, 0] == 0] = ABSENT
    return np.stack([class_NK.astype(np.uint8), quantised(probability_NK)], axis=2)


def _run_N2(run: Run, rows: TaskRows) -> NDArray[np.uint8]:
    assert run.predictions is not None
    pairs_N2 = np.full((len(rows.ids), 2), ABSENT, dtype=np.uint8)
    predicted_B, row_B = run.predictions.predicted_B, run.predictions.row_B
    of_predicted_B = np.take_along_axis(run.predictions.probability_BC, predicted_B[:, None], axis=1)[:, 0]
    pairs_N2[row_B, 0], pairs_N2[row_B, 1] = predicted_B, quantised(of_predicted_B)
    return pairs_N2


def quantised(probability: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Probabilities in whole 255ths: off by 0.002 at most."""
    whole: NDArray[np.uint8] = np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8)
    return whole


def _predicting(cell: Cell) -> Sequence[Run]:
    return [run for run in cell.runs if run.predictions is not None]


def _replicate(run: Run) -> str:
    names = short_names(run.replicate)
    return ", ".join(f"{names[path]} {value}" for path, value in run.replicate.items()) or run.run_id


def _base64(values: NDArray[np.uint8]) -> str:
    return base64.b64encode(values.tobytes()).decode()
