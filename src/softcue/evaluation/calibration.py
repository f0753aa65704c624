"""Calibration: class probabilities changed after the model, class by class.

Each way to choose it ends in the same plain numbers, `runs.record.Calibration`, so that a trained prompt
predicts as its record says, whichever rows the numbers were chosen on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softcue.data.run_data import Rows
from softcue.runs.record import Calibration

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Pulls towards no change that `Affine` tries."""


def log_probabilities(probability_BC: Tensor) -> Tensor:
    """Their logarithm in double precision; 0 counts as the least number of fp32, to which it was rounded."""
    return probability_BC.clamp(min=torch.finfo(torch.float32).tiny).double().log()


def calibrated(probability_BC: Tensor, calibration: Calibration) -> Tensor:
    """Probabilities [B, C] proportional to p^scale exp(bias) of each class."""
    scale_C, bias_C = torch.tensor(calibration.scale).double(), torch.tensor(calibration.bias).double()
    return (log_probabilities(probability_BC) * scale_C + bias_C).softmax(dim=1).float()


class Calibrator(ABC):
    """A way to choose a calibration. `rows` are a part, or texts, whose predictions it needs."""

    rows: Rows

    @abstractmethod
    def fit(self, probability_BC: Tensor, target_B: Tensor) -> Calibration:
        """Choose from the uncalibrated probabilities of `rows` and, where it may, their classes."""


class Contextual(Calibrator):
    """Contextual calibration (Zhao et al. 2021, section 5): divide by the mean p of content-free texts.

    The paper applies a softmax to p / p_cf; here the ratios are normalised, which predicts the same classes.
    """

    def __init__(self, *, texts: list[str]) -> None:
        self.rows: Rows = tuple(texts)

    def fit(self, probability_BC: Tensor, target_B: Tensor) -> Calibration:
        return divided_by_mean(
            probability_BC, method="contextual", rows=f"content-free texts: {', '.join(map(repr, self.rows))}"
        )


class Batch(Calibrator):
    """Batch calibration (Zhou et al. 2023, equation 6): divide by the mean p of rows, labels unseen."""

    def __init__(self, *, rows: Literal["test", "train", "unlabelled"]) -> None:
        self.rows: Rows = rows

    def fit(self, probability_BC: Tensor, target_B: Tensor) -> Calibration:
        return divided_by_mean(probability_BC, method="batch", rows=f"{self.rows} rows without their labels")


@dataclass(frozen=True, kw_only=True)
class _Folded(Calibrator):
    """Chooses on the training rows by folds of them; `seed` draws the folds."""

    num_folds: int
    seed: int

    rows = "train"

    def _folds(self, count: int) -> Iterator[tuple[Indices, Indices]]:
        """The rows outside and inside of each fold."""
        from sklearn.model_selection import KFold  # takes seconds to import

        folds = KFold(min(self.num_folds, count), shuffle=True, random_state=self.seed)
        yield from folds.split(np.zeros(count))

    def _result(self, method: str, scale_C: Numbers, bias_C: Numbers, num_rows: int) -> Calibration:
        return Calibration(
            method=method,
            scale=scale_C.tolist(),
            bias=bias_C.tolist(),
            rows=f"training rows, in {min(self.num_folds, num_rows)} folds",
            num_rows=num_rows,
        )


@dataclass(frozen=True, kw_only=True)
class Threshold(_Folded):
    """A bias for each class after the first, which with two classes is a threshold.

    It is the median of the biases with the best macro-F1 outside each fold, and 0 if the folds themselves
    score no better with it.
    """

    def fit(self, probability_BC: Tensor, target_B: Tensor) -> Calibration:
        log_p_BC, target = log_probabilities(probability_BC).numpy(), target_B.numpy()
        folds = list(self._folds(len(target)))
        biases_FC = np.stack([best_bias(log_p_BC[others], target[others]) for others, _ in folds])
        held_out_BC = log_p_BC.copy()
        for (_, own), bias_C in zip(folds, biases_FC, strict=True):
            held_out_BC[own] += bias_C
        helps = macro_f1(held_out_BC, target) > macro_f1(log_p_BC, target)
        bias_C = np.median(biases_FC, axis=0) if helps else np.zeros(log_p_BC.shape[1])
        return self._result("threshold", np.ones_like(bias_C), bias_C, len(target))


@dataclass(frozen=True, kw_only=True)
class Affine(_Folded):
    """A scale and a bias for each class (vector scaling: Guo et al. 2017, section 4.2).

    They minimise the negative log-likelihood of the training rows plus strength / 2 times the squared
    distance from no change; the folds choose the strength, or no change at all.
    """

    def fit(self, probability_BC: Tensor, target_B: Tensor) -> Calibration:
        log_p_BC, target = log_probabilities(probability_BC).numpy(), target_B.numpy()
        classes = log_p_BC.shape[1]
        none = np.concatenate([np.ones(classes), np.zeros(classes)])
        fits: list[Callable[[Numbers, Indices], Numbers]] = [
            partial(vector_scaling, strength=strength) for strength in STRENGTHS
        ]
        fits.append(lambda *_: none)
        best = min(fits, key=lambda fit: self._held_out(fit, log_p_BC, target))
        chosen = best(log_p_BC, target)
        return self._result("affine", chosen[:classes], chosen[classes:], len(target))

    def _held_out(
        self, fit: Callable[[Numbers, Indices], Numbers], log_p_BC: Numbers, target: Indices
    ) -> float:
        """The negative log-likelihood of each fold under the calibration fitted outside of it."""
        return sum(
            _nll(fit(log_p_BC[others], target[others]), log_p_BC[own], target[own])[0]
            for others, own in self._folds(len(target))
        )


def divided_by_mean(probability_BC: Tensor, *, method: str, rows: str) -> Calibration:
    """The calibration that divides each class's probability by its mean over rows."""
    mean_1C = probability_BC.double().mean(dim=0, keepdim=True)
    return Calibration(
        method=method,
        scale=[1.0] * mean_1C.shape[1],
        bias=(-log_probabilities(mean_1C))[0].tolist(),
        rows=rows,
        num_rows=len(probability_BC),
    )


def macro_f1(score_BC: Numbers, target: Indices) -> float:
    """Mean F1 over the classes, of the classes with the highest scores."""
    classes = score_BC.shape[1]
    chosen = score_BC.argmax(axis=1)
    right = np.bincount(target[chosen == target], minlength=classes)
    total = np.bincount(chosen, minlength=classes) + np.bincount(target, minlength=classes)
    return float(np.mean(2 * right / np.maximum(total, 1)))


def best_bias(log_p_BC: Numbers, target: Indices) -> Numbers:
    """The biases with the best macro-F1, class after class until none improves; the first class has 0."""
    bias_C = np.zeros(log_p_BC.shape[1])
    best, improved = macro_f1(log_p_BC, target), True
    while improved:
        improved = False
        for of in range(1, len(bias_C)):
            for bias in _cuts(log_p_BC + bias_C, of) + bias_C[of]:
                tried_C = bias_C.copy()
                tried_C[of] = bias
                score = macro_f1(log_p_BC + tried_C, target)
                if score > best:
                    best, bias_C, improved = score, tried_C, True
    return bias_C


def _cuts(score_BC: Numbers, of: int) -> Numbers:
    """Changes of a class's scores, each of which predicts it for another number of rows; small ones first."""
    margins = np.unique(np.delete(score_BC, of, axis=1).max(axis=1) - score_BC[:, of])
    cuts = np.concatenate([[margins[0] - 1], (margins[1:] + margins[:-1]) / 2, [margins[-1] + 1]])
    ordered: Numbers = cuts[np.abs(cuts).argsort(kind="stable")]
    return ordered


def vector_scaling(log_p_BC: Numbers, target: Indices, *, strength: float) -> Numbers:
    """Scales, then biases, of the classes: [2 C]."""
    from scipy.optimize import minimize  # takes half a second to import

    classes = log_p_BC.shape[1]
    none = np.concatenate([np.ones(classes), np.zeros(classes)])

    def loss(numbers: Numbers) -> tuple[float, Numbers]:
        nll, gradient = _nll(numbers, log_p_BC, target)
        change = numbers - none
        return nll + strength / 2 * float(change @ change), gradient + strength * change

    found: Numbers = minimize(loss, none, jac=True, method="L-BFGS-B").x
    return found


def _nll(numbers: Numbers, log_p_BC: Numbers, target: Indices) -> tuple[float, Numbers]:
    """The summed negative log-likelihood of the true classes, in nats, and its gradient."""
    classes = log_p_BC.shape[1]
    score_BC = log_p_BC * numbers[:classes] + numbers[classes:]
    highest_B1 = score_BC.max(axis=1, keepdims=True)
    norm_B1 = highest_B1 + np.log(np.exp(score_BC - highest_B1).sum(axis=1, keepdims=True))
    rows = np.arange(len(target))
    excess_BC = np.exp(score_BC - norm_B1)
    excess_BC[rows, target] -= 1
    gradient = np.concatenate([(excess_BC * log_p_BC).sum(axis=0), excess_BC.sum(axis=0)])
    return float((norm_B1[:, 0] - score_BC[rows, target]).sum()), gradient
