"""The LightningModule: a soft prompt in training around a frozen model.

The frozen model is no submodule, so that Lightning neither saves it, nor casts it, nor puts it
into training mode: checkpoints hold the prompt alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics.aggregation import MeanMetric
from transformers import get_scheduler

from softcue.backbone.base import Backbone
from softcue.contracts import Batch, PromptBank, SoftPrompt
from softcue.errors import ConfigError, TrainingError
from softcue.evaluation.metrics import LabelMetrics, mean_metrics
from softcue.evaluation.predictions import predict_batch
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import BatchLoss, Objective
from softcue.training.resume import step_generator

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
SchedulerFactory = Callable[..., LRScheduler]


class PromptModule(LightningModule):
    """Trains one soft prompt, for one task or several; `lm` stays as it is.

    `classes` are each task's. Several tasks have a validation loader each, in their order.
    """

    def __init__(
        self,
        *,
        lm: Backbone,
        prompt: SoftPrompt,
        classes: Mapping[str, tuple[str, ...]],
        objective: Objective,
        scoring: Scoring,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory,
        seed: int,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.seed = seed
        self.window_weight = 0.0
        """Loss units of the batches whose gradients are summed for the next update."""
        self.prompt = prompt
        self.objective = objective
        self.scoring = scoring
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler
        self.train_loss = MeanMetric()
        # So that a checkpoint amid an epoch holds the epoch's mean so far.
        self.train_loss.persistent(True)
        self.validation_loss = MeanMetric()
        self.validation_metrics = nn.ModuleList(
            LabelMetrics(of_task, synced=True) for of_task in classes.values()
        )

    def on_fit_start(self) -> None:
        self.expect_fp32(str(self.trainer.precision))
        self.lm.to(self.device)

    def expect_fp32(self, precision: str) -> None:
        """A prompt in bfloat16 learns nothing."""
        if next(self.prompt.parameters()).dtype != torch.float32:
            raise ConfigError(
                f"trainer.precision={precision} casts the prompt itself, and bfloat16 rounds "
                "its updates to nothing; set backbone.dtype=bfloat16 with trainer.precision=32-true instead."
            )

    def training_step(self, batch: Batch, _: int) -> Tensor:
        loss = self.objective(self.lm, self.bank_at(self.global_step), batch, self.scoring)
        self._expect_finite(loss.mean, "the loss")
        self.log("train/loss_step", loss.mean.detach(), prog_bar=True, batch_size=len(batch))
        return self.add_loss(loss)

    def bank_at(self, step: int) -> PromptBank:
        """The prompts in training, with the dropout that the run draws in this step."""
        device = next(self.prompt.parameters()).device
        with step_generator(self.seed, step, device):
            return cast(PromptBank, self.prompt())

    def add_loss(self, loss: BatchLoss) -> Tensor:
        """Count a batch towards the epoch's mean and the next update: its loss summed, not averaged."""
        self.train_loss.update(loss.mean.detach(), loss.weight)
        self.window_weight += float(loss.weight)
        summed: Tensor = loss.mean * loss.weight
        return summed

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.average_gradients(self.trainer)

    def average_gradients(self, trainer: Trainer) -> None:
        """Divide summed gradients by the units they sum over: those of one large batch's mean loss.

        Lightning has divided them by the number of batches, and averaged them over processes.
        """
        weight = torch.tensor(self.window_weight, device=self.device)
        weight = cast(Tensor, trainer.strategy.reduce(weight, reduce_op="mean"))
        for parameter in self.prompt.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(trainer.accumulate_grad_batches / weight)
        self.window_weight = 0.0

    def on_train_epoch_end(self) -> None:
        # Weighted by label tokens: a mean of batch means would count a short last batch too much.
        self.log("train/loss", self.train_loss.compute())
        self.log("learning_rate", self.learning_rate)
        self.train_loss.reset()

    def on_train_end(self) -> None:
        # The last update is followed by no loss that would show it.
        for name, parameter in self.prompt.named_parameters():
            self._expect_finite(parameter, f"the prompt's {name}")

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        bank = self.prompt()
        loss = self.objective(self.lm, bank, batch, self.scoring)
        self.validation_loss.update(loss.mean, loss.weight)
        rows = predict_batch(self.lm, bank, batch, self.scoring)
        metrics = cast(LabelMetrics, self.validation_metrics[dataloader_idx])
        metrics.update(rows.probability_BC, rows.target_B, rows.nll_B, rows.num_tokens_B)

    def on_validation_epoch_end(self) -> None:
        by_task = [cast(LabelMetrics, metrics) for metrics in self.validation_metrics]
        values = mean_metrics([metrics.compute() for metrics in by_task])
        values["loss"] = float(self.validation_loss.compute())
        self.log_dict({f"validation/{name}": value for name, value in values.items()})
        self.validation_loss.reset()
        for metrics in by_task:
            metrics.reset()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer_factory(self.prompt.parameter_groups())
        scheduler = self.scheduler_factory(
            optimizer, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _expect_finite(self, values: Tensor, what: str) -> None:
        if not torch.isfinite(values).all():
            raise TrainingError(
                f"{what} is no longer finite at step {self.global_step} with learning rate "
                f"{self.learning_rate:g}; lower optimizer.lr, or warm up with scheduler.warmup_fraction=0.1."
            )

    @property
    def learning_rate(self) -> float:
        """What the optimizer takes at this step."""
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        return float(optimizer.param_groups[0]["lr"])


def schedule_with_warmup(
    optimizer: Optimizer, *, total_steps: int, name: str, warmup_fraction: float
) -> LRScheduler:
    """A constant, linear or cosine schedule after a linear warm-up over a fraction of the steps."""
    schedules = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
    scheduler: LRScheduler = get_scheduler(
        schedules[name],
        optimizer,
        num_warmup_steps=round(total_steps * warmup_fraction),
        num_training_steps=total_steps,
    )
    return scheduler
