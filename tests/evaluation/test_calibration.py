"""Calibrations against closed forms, scikit-learn and a search over every threshold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor

from softcue.evaluation.calibration import (
    Affine,
    Batch,
    Calibrator,
    Contextual,
    Threshold,
    best_bias,
    calibrated,
    log_probabilities,
    macro_f1,
    vector_scaling,
)
from softcue.evaluation.calibration import _nll as nll
from softcue.runs.record import Calibration

CALIBRATORS: list[Calibrator] = [
    Contextual(texts=["N/A"]),
    Batch(rows="test"),
    Threshold(num_folds=5, seed=0),
    Affine(num_folds=5, seed=0),
]


def rows(count: int, classes: int, *, skew: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Probabilities that follow the class, `skew` nats too much for the first, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    target_B = torch.randint(classes, (count,), generator=generator)
    score_BC = torch.randn(count, classes, generator=generator)
    score_BC[torch.arange(count), target_B] += 1.5
    score_BC[:, 0] += skew
    return score_BC.softmax(dim=1), target_B


def unchanged(classes: int) -> Calibration:
    return Calibration(method="none", scale=[1.0] * classes, bias=[0.0] * classes, rows="none", num_rows=0)


def test_no_scale_and_no_bias_change_nothing() -> None:
    probability_BC, _ = rows(20, 3, skew=1.0)
    assert torch.allclose(calibrated(probability_BC, unchanged(3)), probability_BC, atol=1e-6)


def test_contextual_calibration_divides_by_the_mean_of_the_content_free_texts() -> None:
    content_free_BC = torch.tensor([[0.9, 0.1], [0.7, 0.3]])
    calibration = Contextual(texts=["N/A", ""]).fit(content_free_BC, torch.tensor([-1, -1]))
    ratio = np.array([0.6 / 0.8, 0.4 / 0.2])
    found = calibrated(torch.tensor([[0.6, 0.4]]), calibration)
    assert found.numpy() == pytest.approx((ratio / ratio.sum())[None], rel=1e-6)
    assert (calibration.rows, calibration.num_rows) == ("content-free texts: 'N/A', ''", 2)


def test_batch_calibration_divides_by_the_mean_of_the_rows_and_never_sees_a_label() -> None:
    probability_BC, target_B = rows(50, 3, skew=2.0)
    batch = Batch(rows="test")
    calibration = batch.fit(probability_BC, target_B)
    ratio_BC = probability_BC / probability_BC.mean(dim=0)
    expected_BC = ratio_BC / ratio_BC.sum(dim=1, keepdim=True)
    assert torch.allclose(calibrated(probability_BC, calibration), expected_BC, atol=1e-6)
    assert batch.fit(probability_BC, torch.full_like(target_B, -1)) == calibration
    assert calibration.rows == "test rows without their labels"


@pytest.mark.parametrize("classes", [2, 3])
def test_macro_f1_is_scikit_learns(classes: int) -> None:
    probability_BC, target_B = rows(40, classes, skew=0.5)
    expected = f1_score(target_B, probability_BC.argmax(1), average="macro", labels=range(classes))
    assert macro_f1(probability_BC.double().numpy(), target_B.numpy()) == pytest.approx(expected)


def test_with_two_classes_the_best_bias_is_the_best_of_all_thresholds() -> None:
    probability_BC, target_B = rows(60, 2, skew=2.0)
    log_p_BC, target = log_probabilities(probability_BC).numpy(), target_B.numpy()
    p_B = probability_BC[:, 1].numpy()
    scores = [f1_score(target, p_B >= threshold, average="macro") for threshold in [*np.unique(p_B), 2.0]]
    bias_C = best_bias(log_p_BC, target)
    assert bias_C[0] == 0
    assert macro_f1(log_p_BC + bias_C, target) == pytest.approx(max(scores))


def test_a_threshold_undoes_a_skew_and_leaves_what_folds_do_not_improve() -> None:
    skewed_BC, target_B = rows(200, 2, skew=3.0)
    found = Threshold(num_folds=5, seed=0).fit(skewed_BC, target_B)
    assert found.bias[1] == pytest.approx(3.0, abs=1.0)
    assert (found.rows, found.scale) == ("training rows, in 5 folds", [1.0, 1.0])
    separable_BC = torch.nn.functional.one_hot(target_B, 2) * 0.8 + 0.1
    assert Threshold(num_folds=5, seed=0).fit(separable_BC, target_B).bias == [0.0, 0.0]


def test_vector_scaling_without_strength_is_logistic_regression_on_log_probabilities() -> None:
    probability_BC, target_B = rows(200, 2, skew=1.0)
    log_p_BC = log_probabilities(probability_BC).numpy()
    numbers = vector_scaling(log_p_BC, target_B.numpy(), strength=1e-8)
    score_BC = log_p_BC * numbers[:2] + numbers[2:]
    found = 1 / (1 + np.exp(score_BC[:, 0] - score_BC[:, 1]))
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(log_p_BC, target_B)
    assert found == pytest.approx(oracle.predict_proba(log_p_BC)[:, 1], abs=1e-3)


def test_vector_scaling_with_infinite_strength_changes_nothing() -> None:
    probability_BC, target_B = rows(50, 3, skew=1.0)
    numbers = vector_scaling(log_probabilities(probability_BC).numpy(), target_B.numpy(), strength=1e9)
    assert numbers == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-5)


def test_the_gradient_of_its_loss_is_that_of_finite_differences() -> None:
    probability_BC, target_B = rows(30, 3, skew=1.0)
    log_p_BC, target = log_probabilities(probability_BC).numpy(), target_B.numpy()
    at = np.linspace(-1, 1, 6)
    error = check_grad(lambda x: nll(x, log_p_BC, target)[0], lambda x: nll(x, log_p_BC, target)[1], at)
    assert error < 1e-4


def test_affine_calibration_lowers_the_likelihood_loss_of_other_rows() -> None:
    train_BC, train_B = rows(200, 3, skew=2.0)
    test_BC, test_B = rows(500, 3, skew=2.0, seed=1)
    calibration = Affine(num_folds=5, seed=0).fit(train_BC, train_B)

    def loss(probability_BC: Tensor) -> float:
        return float(-probability_BC.gather(1, test_B[:, None]).log().mean())

    assert loss(calibrated(test_BC, calibration)) < loss(test_BC) - 0.1


def test_affine_calibration_changes_nothing_that_folds_find_calibrated() -> None:
    target_B = torch.arange(200) % 2
    noise_BC = torch.full((200, 2), 0.5)
    found = Affine(num_folds=5, seed=0).fit(noise_BC, target_B)
    assert calibrated(noise_BC, found).numpy() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda one: type(one).__name__)
def test_probabilities_of_zero_and_two_rows_give_finite_numbers(calibrator: Calibrator) -> None:
    certain_BC = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    calibration = calibrator.fit(certain_BC, torch.tensor([0, 1]))
    assert np.isfinite(calibration.scale + calibration.bias).all()
    assert calibrated(certain_BC, calibration).isfinite().all()
