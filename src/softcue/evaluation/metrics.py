"""Computes the metrics that `runs.metrics` declares, for prompts and baselines alike."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric as TorchMetric
from torchmetrics import MetricCollection
from torchmetrics.aggregation import MeanMetric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassF1Score,
)
from torchmetrics.utilities.data import dim_zero_cat

CALIBRATION_BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al. 2017)."""


class CalibrationError(MulticlassCalibrationError):
    """Expected calibration error over bins ((m - 1) / M, m / M] (Guo et al. 2017, equation 3).

    torchmetrics' bins are [(m - 1) / M, m / M), which put a confidence of exactly 1 into a bin of its own.
    """

    def compute(self) -> Tensor:
        confidence_N = dim_zero_cat(self.confidences).float()
        excess_N = dim_zero_cat(self.accuracies).float() - confidence_N
        inner = torch.linspace(0, 1, CALIBRATION_BINS + 1, device=excess_N.device)[1:-1]
        excess_M = excess_N.new_zeros(CALIBRATION_BINS)
        excess_M.index_add_(0, torch.bucketize(confidence_N, inner), excess_N)
        return excess_M.abs().sum() / len(excess_N)


MetricFactory = Callable[..., TorchMetric]
"""A classification metric of torchmetrics, or one like it, called with `num_classes`."""


class LikelihoodMetrics(torch.nn.Module):
    """Perplexity of the right label or text, per token; NaN for a method without a language model.

    `synced` combines the rows of all processes of a distributed run.
    """

    def __init__(self, *, synced: bool) -> None:
        super().__init__()
        self.nll_per_token = MeanMetric(nan_strategy="ignore", sync_on_compute=synced)

    def update(self, probability_BC: Tensor, target_B: Tensor, nll_B: Tensor, num_tokens_B: Tensor) -> None:
        """Add rows: class probabilities, true classes, and the right target's nll and number of tokens."""
        self.nll_per_token.update(nll_B / num_tokens_B, weight=num_tokens_B)

    def compute(self) -> dict[str, float]:
        """Every metric over the rows since the last reset, by its name in records."""
        known = self.nll_per_token.update_called and float(self.nll_per_token.weight) > 0
        nll = float(self.nll_per_token.compute()) if known else math.nan
        return {"perplexity": math.exp(min(nll, 700.0))}

    def reset(self) -> None:
        """Forget all rows."""
        self.nll_per_token.reset()


class LabelMetrics(LikelihoodMetrics):
    """Accuracy, macro-F1, F1 by class, AUROC, calibration error, perplexity of the true label.

    AUROC is one class against the rest, averaged over the classes that occur, and NaN unless two do.
    The user's `own` metrics are named as in `own/mcc`.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        *,
        synced: bool,
        own: Mapping[str, MetricFactory] = MappingProxyType({}),
    ) -> None:
        super().__init__(synced=synced)
        count = len(classes)
        self.classes = classes
        self.collection = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(count, average="micro", sync_on_compute=synced),
                "macro_f1": MulticlassF1Score(count, average="macro", sync_on_compute=synced),
                "f1": MulticlassF1Score(count, average="none", sync_on_compute=synced),
                "calibration_error": CalibrationError(count, sync_on_compute=synced),
            }
        )
        self.auroc = MulticlassAUROC(count, average="none", sync_on_compute=synced)
        self.seen: set[int] = set()
        self.own = torch.nn.ModuleDict({name: make(num_classes=count) for name, make in own.items()})

    @property
    def _own(self) -> dict[str, TorchMetric]:
        return {name: cast(TorchMetric, metric) for name, metric in self.own.items()}

    def update(self, probability_BC: Tensor, target_B: Tensor, nll_B: Tensor, num_tokens_B: Tensor) -> None:
        super().update(probability_BC, target_B, nll_B, num_tokens_B)
        self.collection.update(probability_BC, target_B)
        self.auroc.update(probability_BC, target_B)
        self.seen.update(target_B.tolist())
        for metric in self._own.values():
            metric.update(probability_BC, target_B)

    def compute(self) -> dict[str, float]:
        values = self.collection.compute()
        by_class = values.pop("f1").tolist()
        named = {name: float(value) for name, value in values.items()}
        named |= {f"f1/{name}": value for name, value in zip(self.classes, by_class, strict=True)}
        named["auroc"] = self._mean_auroc()
        named |= super().compute()
        return named | {f"own/{name}": float(metric.compute()) for name, metric in self._own.items()}

    def _mean_auroc(self) -> float:
        if len(self.seen) < 2:
            return math.nan
        with warnings.catch_warnings():
            # torchmetrics warns about classes that do not occur and gives them an AUROC of 0.
            warnings.filterwarnings("ignore", message="No positive samples in targets")
            by_class_C = self.auroc.compute()
        return float(by_class_C[sorted(self.seen)].mean())

    def reset(self) -> None:
        super().reset()
        self.collection.reset()
        self.auroc.reset()
        self.seen.clear()
        for metric in self._own.values():
            metric.reset()


def metrics_of(
    classes: tuple[str, ...], *, synced: bool, own: Mapping[str, MetricFactory] = MappingProxyType({})
) -> LikelihoodMetrics:
    """The metrics of a task of these classes, or of a text task, which has none."""
    return LabelMetrics(classes, synced=synced, own=own) if classes else LikelihoodMetrics(synced=synced)


def mean_metrics(of_tasks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over tasks of every metric that all of them have."""
    names = [name for name in of_tasks[0] if all(name in metrics for metrics in of_tasks)]
    return {name: fmean(metrics[name] for metrics in of_tasks) for name in names}
