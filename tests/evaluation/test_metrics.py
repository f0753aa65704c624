"""Metrics against scikit-learn and closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import Tensor

from softcue.evaluation.metrics import LabelMetrics
from softcue.runs.metrics import METRICS, metric_named

CLASSES = ("yes", "no", "maybe")
NUM_ROWS = 60


OF_CLASSES = [
    name
    for name, metric in METRICS.items()
    if metric.needs in ("class probabilities", "likelihoods") and name != "own"
]


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (NUM_ROWS,), generator=generator)
    scores = torch.randn(NUM_ROWS, 3, generator=generator)
    scores[range(NUM_ROWS), targets] += 1.0
    return scores.softmax(dim=1), targets


def computed(probability: Tensor, target: Tensor, *, nll: Tensor | None = None) -> dict[str, float]:
    metrics = LabelMetrics(CLASSES, synced=False)
    for some in torch.arange(len(target)).split(7):  # in uneven batches
        nan = torch.full((len(some),), math.nan)
        metrics.update(
            probability[some], target[some], nan if nll is None else nll[some], torch.ones(len(some))
        )
    return metrics.compute()


def test_exactly_the_declared_metrics_are_computed(rows: tuple[Tensor, Tensor]) -> None:
    names = computed(*rows)
    families = {name.partition("/")[0] for name in names}
    assert families == set(OF_CLASSES)
    assert {metric_named(name).name for name in names} == set(names)


@pytest.mark.parametrize("name", sorted(OF_CLASSES))
def test_the_declared_direction_is_that_of_a_better_classifier(name: str) -> None:
    """A classifier that is sure and right, against one that is sure and wrong."""
    target = torch.tensor([0, 1, 2, 0])
    sure = torch.eye(3)[target] * 0.97 + 0.01
    wrong = sure.roll(1, dims=1)
    right, worse = (
        computed(rows, target, nll=-rows[range(4), target].log())[f"{name}/yes" if name == "f1" else name]
        for rows in (sure, wrong)
    )
    assert METRICS[name].rank(right) < METRICS[name].rank(worse)


def test_accuracy_f1_and_auroc_equal_scikit_learns(rows: tuple[Tensor, Tensor]) -> None:
    probability, target = rows
    predicted = probability.argmax(dim=1)
    values = computed(probability, target)
    assert values["accuracy"] == pytest.approx(accuracy_score(target, predicted))
    assert values["macro_f1"] == pytest.approx(f1_score(target, predicted, average="macro"))
    by_class = [values[f"f1/{name}"] for name in CLASSES]
    assert by_class == pytest.approx(f1_score(target, predicted, average=None).tolist())
    assert values["auroc"] == pytest.approx(roc_auc_score(target, probability, multi_class="ovr"))


def test_a_sure_classifier_is_calibrated_only_if_it_is_right() -> None:
    target = torch.tensor([0, 1, 2, 0])
    sure = torch.eye(3)[target]
    assert computed(sure, target)["calibration_error"] == 0
    assert computed(sure.roll(1, dims=1), target)["calibration_error"] == 1


def test_calibration_error_has_fifteen_bins_and_sure_rows_share_the_last() -> None:
    """Guo et al. 2017, equation 3, written out: bin m holds confidences in ((m - 1) / 15, m / 15]."""
    confidence = np.array([1.0, 1.0, 0.95, 0.99, 14 / 15, 0.5, 0.6, 0.34, 2 / 3])
    right = np.array([1, 0, 1, 0, 1, 0, 1, 1, 0])
    rest = (1 - confidence) / 2
    probability = torch.tensor(np.stack([confidence, rest, rest], axis=1), dtype=torch.float32)
    target = torch.tensor(1 - right)
    expected, edges = 0.0, np.arange(16) / 15
    for low, high in pairwise(edges):
        inside = (confidence > low + 1e-9) & (confidence <= high + 1e-9)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert computed(probability, target)["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probability = torch.tensor([[0.8, 0.1, 0.1]] * 10)
    target = torch.tensor([0, 1] * 5)
    assert computed(probability, target)["calibration_error"] == pytest.approx(0.3)


def test_perplexity_is_per_label_token() -> None:
    metrics = LabelMetrics(CLASSES, synced=False)
    probability, target = torch.eye(3), torch.arange(3)
    metrics.update(probability, target, torch.tensor([1.0, 4.0, 3.0]), torch.tensor([1.0, 2.0, 1.0]))
    assert metrics.compute()["perplexity"] == pytest.approx(np.exp(8 / 4))


def test_auroc_is_over_the_classes_that_occur(rows: tuple[Tensor, Tensor]) -> None:
    probability, target = rows
    two = target != 2
    expected = [roc_auc_score(target[two] == index, probability[two, index]) for index in (0, 1)]
    assert computed(probability[two], target[two])["auroc"] == pytest.approx(np.mean(expected))


def test_what_is_undefined_is_nan() -> None:
    values = computed(torch.eye(3)[[0, 0]], torch.tensor([0, 0]))
    assert math.isnan(values["auroc"])
    assert math.isnan(values["perplexity"])


def test_reset_removes_all_rows(rows: tuple[Tensor, Tensor]) -> None:
    probability, target = rows
    metrics = LabelMetrics(CLASSES, synced=False)
    ones = torch.ones(NUM_ROWS)
    metrics.update(probability.flip(1), target, ones, ones)
    metrics.reset()
    metrics.update(probability, target, ones, ones)
    assert metrics.compute() == pytest.approx(computed(probability, target, nll=ones))
