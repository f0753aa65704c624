"""One run among those that train jointly: its prompt, and its share of losses and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.aggregation import MeanMetric

from softcue.contracts import PromptBank, SoftPrompt
from softcue.errors import TrainingError
from softcue.evaluation.metrics import LikelihoodMetrics, MetricFactory, metrics_of
from softcue.training.objectives import BatchLoss
from softcue.training.randomness import step_generator

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]


class Member(nn.Module):
    """A run's prompt in training.

    `seed` determines its dropout. `validated` are the classes of each task that has validation rows, none
    for a text task. On those of classes the user's `own_metrics` are computed too.
    """

    def __init__(
        self,
        *,
        run_id: str,
        prompt: SoftPrompt,
        seed: int,
        optimizer: OptimizerFactory,
        validated: Sequence[tuple[str, ...]],
        own_metrics: Mapping[str, MetricFactory] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.run_id, self.seed, self.prompt, self.optimizer_factory = run_id, seed, prompt, optimizer
        self.train_loss = MeanMetric()
        # A checkpoint within an epoch has to hold the epoch's mean so far.
        self.train_loss.persistent(True)
        self.validation_loss = MeanMetric()
        self.validation_metrics = nn.ModuleList(
            metrics_of(classes, synced=True, own=own_metrics) for classes in validated
        )
        self.prefix = ""
        """In front of the names of logged values, to distinguish the members."""
        self.first_group = 0
        """The number of its first parameter group in the common optimizer."""
        self.window_weight = 0.0
        """Loss units of the batches whose gradients are summed for the next update."""
        self.failure: TrainingError | None = None

    def bank_at(self, step: int) -> PromptBank:
        """The prompts in training, with the dropout of this step."""
        device = next(self.prompt.parameters()).device
        with step_generator(self.seed, step, device):
            return cast(PromptBank, self.prompt())

    def add_loss(self, loss: BatchLoss) -> Tensor:
        """Add a batch to the epoch's mean and to the next update; its loss summed over units."""
        self.train_loss.update(loss.mean.detach(), loss.weight)
        self.window_weight += float(loss.weight)
        summed: Tensor = loss.mean * loss.weight
        return summed

    def average_gradients(self, weight: Tensor) -> None:
        """Divide the summed gradients by `weight`: the result is that of one large batch's mean loss."""
        for parameter in self.prompt.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(weight)
        self.window_weight = 0.0

    def stop(self, failure: TrainingError) -> None:
        """Take no further part in training."""
        self.failure = failure
        self.prompt.requires_grad_(False)

    def folded_bank(self) -> PromptBank:
        """The prompts to predict with: without dropout, gradients or the modules that make them."""
        was_training = self.prompt.training
        with torch.no_grad():
            bank: PromptBank = self.prompt.eval()().detach()
        self.prompt.train(was_training)
        return bank

    def reset_validation(self) -> None:
        """Forget the validation rows of this epoch."""
        self.validation_loss.reset()
        for metrics in self.validation_metrics:
            cast(LikelihoodMetrics, metrics).reset()
