"""Weighted scores equal scikit-learn's with sample weights, and the run metrics' without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from softcue.evaluation.metrics import LabelMetrics
from softcue.statistics.outcomes import Outcomes, score_named
from tests.statistics.conftest import MakeOutcomes

NAMES = ("accuracy", "macro_f1", "auroc", "calibration_error", "f1/1")


def score(run: Outcomes, metric: str, weights_B: np.ndarray) -> float:
    of = score_named(metric, [str(index) for index in range(run.num_classes)])
    assert of is not None
    return float(of(run, weights_B.astype(np.float32)[:, None])[0])


@pytest.mark.parametrize("classes", [2, 5])
def test_weighted_scores_are_scikit_learns(make_outcomes: MakeOutcomes, classes: int) -> None:
    run = make_outcomes(rows=60, classes=classes, seed=3)
    weights_B = np.random.default_rng(5).integers(0, 4, size=60)
    target, predicted = run.target_B, run.predicted_B
    assert score(run, "accuracy", weights_B) == pytest.approx(
        accuracy_score(target, predicted, sample_weight=weights_B)
    )
    assert score(run, "macro_f1", weights_B) == pytest.approx(
        f1_score(target, predicted, average="macro", sample_weight=weights_B)
    )
    probability = run.probability_BC[:, 1] if classes == 2 else run.probability_BC
    expected = roc_auc_score(target, probability, multi_class="ovr", sample_weight=weights_B)
    assert score(run, "auroc", weights_B) == pytest.approx(expected)


def test_ties_of_auroc_count_half(make_outcomes: MakeOutcomes) -> None:
    run = make_outcomes(rows=80, classes=2, seed=1)
    rounded_B = run.probability_BC[:, 1].round(1)
    tied = Outcomes(
        row_B=run.row_B,
        target_B=run.target_B,
        predicted_B=run.predicted_B,
        probability_BC=np.stack([1 - rounded_B, rounded_B], axis=1),
    )
    assert score(tied, "auroc", np.ones(80)) == pytest.approx(roc_auc_score(run.target_B, rounded_B))


@pytest.mark.parametrize(("classes", "rows"), [(2, 40), (4, 12), (9, 12)])
def test_unweighted_scores_are_those_of_records(make_outcomes: MakeOutcomes, classes: int, rows: int) -> None:
    """With 9 classes and 12 rows some class never occurs, and macro-F1 leaves it out as torchmetrics does."""
    run = make_outcomes(rows=rows, classes=classes, seed=2)
    names = tuple(str(index) for index in range(classes))
    metrics = LabelMetrics(names, synced=False)
    metrics.update(
        torch.tensor(run.probability_BC),
        torch.tensor(run.target_B),
        torch.full((rows,), torch.nan),
        torch.ones(rows),
    )
    expected = metrics.compute()
    for name in NAMES:
        assert score(run, name, np.ones(rows)) == pytest.approx(expected[name], abs=1e-6), name


def test_perplexity_has_no_score_of_rows() -> None:
    assert score_named("perplexity", ["a", "b"]) is None
