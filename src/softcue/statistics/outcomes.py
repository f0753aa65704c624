"""The scores of runs when their rows are weighted, as a bootstrap and a permutation test need them.

Shapes: N rows of a task, B rows of a run, C classes, K resamples, R runs, U occurring pairs of classes.
Scores follow softcue.evaluation.metrics, that is torchmetrics; tests hold them to the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Weights = NDArray[np.float32]

CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """One run's rows: their place among the task's N rows, true class, predicted class, probabilities."""

    row_B: Indices
    target_B: Indices
    predicted_B: Indices
    probability_BC: Floats

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return int(self.probability_BC.shape[1])


Score = Callable[[Outcomes, Weights], Floats]
"""From a run and weights [B, K] of its rows to K scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Weighted counts by class: right predictions, predictions, and true rows."""

    right_CK: Floats
    predicted_CK: Floats
    true_CK: Floats


CountScore = Callable[[Counts], Floats]
"""From counts to K scores."""


def accuracy(counts: Counts) -> Floats:
    """The share of right predictions."""
    return np.asarray(counts.right_CK.sum(axis=0) / counts.true_CK.sum(axis=0))


def macro_f1(counts: Counts) -> Floats:
    """F1 averaged over the classes that are predicted or true in some row."""
    f1_CK = f1_by_class(counts)
    occurs_CK = np.isfinite(f1_CK)
    return np.asarray(np.where(occurs_CK, f1_CK, 0).sum(axis=0) / occurs_CK.sum(axis=0))


def f1_of(index: int) -> CountScore:
    """The score that is one class's F1; 0 where the class does not occur."""
    return lambda counts: np.nan_to_num(f1_by_class(counts)[index])


def confusion_counts(run: Outcomes, weights_BK: Weights) -> Counts:
    """Count by the pairs of true and predicted class that occur, so that 77 classes cost no more than 2."""
    codes, column_B = np.unique(run.target_B * run.num_classes + run.predicted_B, return_inverse=True)
    count_UK = summed(column_B, weights_BK, size=len(codes))
    return counts_of_pairs(codes, count_UK, num_classes=run.num_classes)


def counts_of_pairs(codes: Indices, count_UK: Floats, *, num_classes: int) -> Counts:
    """Counts by class from those of pairs; a pair's code is true * C + predicted."""
    true_U, predicted_U = np.divmod(codes, num_classes)
    right_U = true_U == predicted_U
    return Counts(
        right_CK=summed(true_U[right_U], count_UK[right_U], size=num_classes),
        predicted_CK=summed(predicted_U, count_UK, size=num_classes),
        true_CK=summed(true_U, count_UK, size=num_classes),
    )


def f1_by_class(counts: Counts) -> Floats:
    """F1 [C, K]; NaN for a class that occurs neither as truth nor as prediction."""
    total_CK = counts.predicted_CK + counts.true_CK
    nothing_CK = np.full_like(total_CK, np.nan)
    return np.asarray(np.divide(2 * counts.right_CK, total_CK, out=nothing_CK, where=total_CK > 0))


def auroc(run: Outcomes, weights_BK: Weights) -> Floats:
    """Each class against the rest by the weighted Mann-Whitney statistic, averaged over the true classes."""
    classes = np.unique(run.target_B)
    if len(classes) < 2:
        return np.full(weights_BK.shape[1], np.nan)
    if run.num_classes == 2:
        # The other class's probability is the complement, and gives the same area.
        classes = classes[1:]
    areas = [
        _area(run.target_B == index, run.probability_BC[:, index], weights_BK) for index in classes.tolist()
    ]
    return np.asarray(np.mean(areas, axis=0))


def _area(positive_B: NDArray[np.bool_], score_B: Floats, weights_BK: Weights) -> Floats:
    values, place_B = np.unique(score_B, return_inverse=True)
    positive_VK = summed(place_B[positive_B], weights_BK[positive_B], size=len(values))
    negative_VK = summed(place_B[~positive_B], weights_BK[~positive_B], size=len(values))
    below_VK = negative_VK.cumsum(axis=0) - 0.5 * negative_VK
    pairs_K = positive_VK.sum(axis=0) * negative_VK.sum(axis=0)
    area_K = np.einsum("vk,vk->k", positive_VK, below_VK)
    return np.asarray(np.divide(area_K, pairs_K, out=np.full_like(area_K, np.nan), where=pairs_K > 0))


def calibration_error(run: Outcomes, weights_BK: Weights) -> Floats:
    """Expected calibration error over bins ((m - 1) / M, m / M] (Guo et al. 2017, equation 3)."""
    confidence_B = run.probability_BC.max(axis=1)
    excess_B = (run.probability_BC.argmax(axis=1) == run.target_B) - confidence_B
    bins_B = np.searchsorted(np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1], confidence_B)
    excess_MK = summed(bins_B, weights_BK * excess_B[:, None].astype(np.float32), size=CALIBRATION_BINS)
    return np.asarray(np.abs(excess_MK).sum(axis=0) / weights_BK.sum(axis=0), dtype=float)


def count_score_named(metric: str, classes: Sequence[str]) -> CountScore | None:
    """The score of a metric's name in records, if the predicted classes determine it."""
    if metric.startswith("f1/"):
        name = metric.removeprefix("f1/")
        return f1_of(classes.index(name)) if name in classes else None
    return {"accuracy": accuracy, "macro_f1": macro_f1}.get(metric)


def score_named(metric: str, classes: Sequence[str]) -> Score | None:
    """The score of a metric's name in records; None for one that predictions do not determine."""
    of_counts = count_score_named(metric, classes)
    if of_counts is not None:
        return lambda run, weights_BK: of_counts(confusion_counts(run, weights_BK))
    return {"auroc": auroc, "calibration_error": calibration_error}.get(metric)


def summed(group_B: Indices, weights_BK: Weights | Floats, *, size: int) -> Floats:
    """Sum the weights [B, K] of each group of rows: [size, K]."""
    count = len(group_B)
    ones = np.ones(count, dtype=weights_BK.dtype)
    # Each row of the data is a column with a single 1, so that nothing is to be sorted.
    matrix = sparse.csc_matrix((ones, group_B, np.arange(count + 1)), shape=(size, count))
    return np.asarray(matrix @ weights_BK, dtype=float)
