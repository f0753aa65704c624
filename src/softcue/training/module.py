"""The LightningModule: soft prompts in training around a frozen model, those of one run or of several.

Runs that train jointly share the passes through the model. Each keeps its own rows, loss, dropout and
optimizer state, so it ends as it would have ended alone. The frozen model is no submodule, so Lightning
does not save it, cast it or put it into training mode: checkpoints hold the prompts only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from softcue.backbone.base import Backbone
from softcue.contracts import Batch
from softcue.errors import ConfigError, TrainingError
from softcue.evaluation.metrics import LikelihoodMetrics, mean_metrics
from softcue.evaluation.predictions import predict_batch
from softcue.evaluation.scoring import Scoring
from softcue.training.member import Member
from softcue.training.objectives import Objective
from softcue.training.own_labels import with_own_labels
from softcue.training.schedules import SchedulerFactory, make_scheduler


class PromptModule(LightningModule):
    """Trains the prompts of `members`; `lm` does not change.

    A member whose loss is not finite stops training with an error in `Member.failure`; the others continue.
    A training batch is a list with a batch of each member. Validation loaders are those of the first
    member's tasks, then those of the second's, and so on.
    """

    def __init__(
        self,
        *,
        lm: Backbone,
        members: Sequence[Member],
        objective: Objective,
        scoring: Scoring,
        scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__()
        self.lm, self.objective, self.scoring, self.scheduler_factory = lm, objective, scoring, scheduler
        self._members = nn.ModuleList(members)

    @property
    def members(self) -> list[Member]:
        """All members, in the order of the batches."""
        return [cast(Member, member) for member in self._members]

    @property
    def running(self) -> list[Member]:
        """The members that have not failed."""
        return [member for member in self.members if member.failure is None]

    def on_fit_start(self) -> None:
        if next(self.parameters()).dtype != torch.float32:
            raise ConfigError(
                f"trainer.precision={self.trainer.precision} casts the prompt itself, and bfloat16 rounds "
                "its updates to nothing; set backbone.dtype=bfloat16 with trainer.precision=32-true instead."
            )
        self.lm.to(self.device)

    def training_step(self, batches: list[Batch], _: int) -> Tensor:
        running = [pair for pair in zip(self.members, batches, strict=True) if pair[0].failure is None]
        banks = [member.bank_at(self.global_step) for member, _ in running]
        losses = self.objective.losses(self.lm, banks, [batch for _, batch in running], self.scoring)
        means, sums = [], []
        for (member, batch), bank, of_rows in zip(running, banks, losses, strict=True):
            loss = with_own_labels(self.lm, bank, member.prompt.own_labels, of_rows, num_rows=len(batch))
            if self._is_finite(member, loss.mean, "the loss"):
                mean = loss.mean.detach()
                self.log(f"{member.prefix}train/loss_step", mean, batch_size=len(batch))
                means.append(mean)
                sums.append(member.add_loss(loss))
        if not sums:
            raise cast(TrainingError, running[-1][0].failure)
        self.log("loss", torch.stack(means).mean(), prog_bar=True, logger=False, batch_size=1)
        # No member's gradient depends on another's.
        return torch.stack(sums).sum()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for member in self.running:
            weight = torch.tensor(member.window_weight, device=self.device)
            weight = cast(Tensor, self.trainer.strategy.reduce(weight, reduce_op="mean"))
            # Lightning has divided the gradients by the number of batches and averaged them over processes.
            member.average_gradients(weight / self.trainer.accumulate_grad_batches)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        for member in self.running:
            member.prompt.after_update()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Member by member: each gradient has its own norm.
        for member in self.members:
            if gradient_clip_val and gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
                nn.utils.clip_grad_value_(member.prompt.parameters(), gradient_clip_val)
            elif gradient_clip_val:
                nn.utils.clip_grad_norm_(member.prompt.parameters(), gradient_clip_val)

    def on_train_epoch_end(self) -> None:
        for member in self.running:
            # Weighted by label tokens: a mean of batch means would give a short last batch too much weight.
            self.log(f"{member.prefix}train/loss", member.train_loss.compute())
            self.log(f"{member.prefix}learning_rate", self._learning_rate(member))
        for member in self.members:
            member.train_loss.reset()

    def on_train_end(self) -> None:
        # No loss follows the last update to show that it was finite.
        for member in self.running:
            for name, parameter in member.prompt.named_parameters():
                if not self._is_finite(member, parameter, f"the prompt's {name}"):
                    break

    def validation_step(self, batch: Batch, _: int, dataloader_idx: int = 0) -> None:
        pairs = [(member, metrics) for member in self.members for metrics in member.validation_metrics]
        member, metrics = pairs[dataloader_idx]
        if member.failure is None:
            bank = member.prompt()
            loss = self.objective(self.lm, bank, batch, self.scoring)
            member.validation_loss.update(loss.mean, loss.weight)
            rows = predict_batch(self.lm, bank, batch, self.scoring)
            cast(LikelihoodMetrics, metrics).update(
                rows.probability_BC, rows.target_B, rows.nll_B, rows.num_tokens_B
            )

    def on_validation_epoch_end(self) -> None:
        for member in self.running:
            by_task = [cast(LikelihoodMetrics, metrics) for metrics in member.validation_metrics]
            values = mean_metrics([metrics.compute() for metrics in by_task])
            values["loss"] = float(member.validation_loss.compute())
            self.log_dict({f"{member.prefix}validation/{name}": value for name, value in values.items()})
            member.reset_validation()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        failures = {at: str(one.failure) for at, one in enumerate(self.members) if one.failure}
        checkpoint["members"] = {"run_ids": [member.run_id for member in self.members], "failures": failures}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for at, message in checkpoint["members"]["failures"].items():
            self.members[at].stop(TrainingError(message))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # One optimizer serves all: its state and its arithmetic are per parameter.
        groups: list[dict[str, Any]] = []
        for member in self.members:
            member.first_group = len(groups)
            groups += member.optimizer_factory(member.prompt.parameter_groups()).param_groups
        optimizer = self.members[0].optimizer_factory(groups)
        if self.scheduler_factory is None:
            return optimizer
        scheduler = make_scheduler(
            self.scheduler_factory, optimizer, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate(self, member: Member) -> float:
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        return float(optimizer.param_groups[member.first_group]["lr"])

    def _is_finite(self, member: Member, values: Tensor, what: str) -> bool:
        """Whether all values are finite; if not, the member stops."""
        if torch.isfinite(values).all():
            return True
        member.stop(
            TrainingError(
                f"{what} is no longer finite at step {self.global_step} with learning rate "
                f"{self._learning_rate(member):g}; lower prompt.learning_rate, or warm up with "
                "scheduler.warmup_fraction=0.1."
            )
        )
        return False


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
