"""Packed training: several runs of one method in one pass through the frozen model.

Each member keeps its own rows, their order, its loss and its optimizer state, so it becomes what it
would have become alone; what they share is the pass, and the state that a pass cut off goes on from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.utilities import CombinedLoader, GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from softcue.contracts import Batch, PromptBank
from softcue.data.datamodule import PromptData
from softcue.errors import TrainingError
from softcue.training.module import PromptModule
from softcue.training.objectives import ScoresObjective


class JointModule(LightningModule):
    """Trains the prompts of several modules that share one frozen model and one objective.

    A member whose loss is no longer finite stops there, with its error in `failures`; the others go on.
    `names` are the members' run ids.
    """

    def __init__(self, members: Sequence[PromptModule], *, names: Sequence[str]) -> None:
        super().__init__()
        # No submodules of ours: they are Lightning's own kind, and only their prompts train here.
        self.__dict__["members"] = list(members)
        self.names = list(names)
        self.prompts = nn.ModuleList(member.prompt for member in members)
        self.train_losses = nn.ModuleList(member.train_loss for member in members)
        self.failures: dict[int, TrainingError] = {}
        self.curves: list[list[Mapping[str, float]]] = [[] for _ in members]
        """For each member, what its epochs would have logged alone."""

    def on_fit_start(self) -> None:
        for member in self._members:
            member.expect_fp32(str(self.trainer.precision))
            member.lm.to(self.device)

    def training_step(self, batches: list[Batch], _: int) -> Tensor:
        running = [at for at in range(len(batches)) if at not in self.failures]
        first = self._members[0]
        bank = PromptBank.concat([self._members[at].bank_at(self.global_step) for at in running])
        together = Batch.concat(
            [
                replace(batches[at], prompt_B=torch.full_like(batches[at].prompt_B, place))
                for place, at in enumerate(running)
            ]
        )
        objective = cast(ScoresObjective, first.objective)
        scores = objective.scores(first.lm, bank, together)
        means, sums = [], []
        for at, own in zip(running, scores.split([len(batches[at]) for at in running]), strict=True):
            member = self._members[at]
            loss = objective.of(own, batches[at].target_B, member.scoring)
            if torch.isfinite(loss.mean):
                means.append(loss.mean.detach())
                sums.append(member.add_loss(loss))
            else:
                self._stop(at, self._diverged(at))
        if not sums:
            raise self.failures[running[-1]]
        mean = torch.stack(means).mean()
        self.log("train/loss_step", mean, prog_bar=True, batch_size=len(together))
        # No member's gradient depends on the others'.
        return torch.stack(sums).sum()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for at, member in enumerate(self._members):
            if at not in self.failures:
                member.average_gradients(self.trainer)

    def on_train_epoch_end(self) -> None:
        for at, member in enumerate(self._members):
            if at not in self.failures:
                self.curves[at].append(
                    {
                        "step": self.global_step - 1,
                        "epoch": self.current_epoch,
                        "train/loss": float(member.train_loss.compute()),
                        "learning_rate": self._group_of(at)["lr"],
                    }
                )
            member.train_loss.reset()

    def on_train_end(self) -> None:
        for at, prompt in enumerate(self.prompts):
            if at not in self.failures and not all(torch.isfinite(p).all() for p in prompt.parameters()):
                self._stop(at, self._diverged(at))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["joint"] = {
            "names": self.names,
            "failures": {at: str(error) for at, error in self.failures.items()},
            "curves": self.curves,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.curves = checkpoint["joint"]["curves"]
        for at, message in checkpoint["joint"]["failures"].items():
            self._stop(at, TrainingError(message))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Each member's gradient has a norm of its own.
        for prompt in self.prompts:
            if gradient_clip_val and gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
                nn.utils.clip_grad_value_(prompt.parameters(), gradient_clip_val)
            elif gradient_clip_val:
                nn.utils.clip_grad_norm_(prompt.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        # One optimizer: its state goes by parameter, and so does everything its step computes.
        alone = [member.optimizer_factory(member.prompt.parameter_groups()) for member in self._members]
        groups = [group for optimizer in alone for group in optimizer.param_groups]
        optimizer = self._members[0].optimizer_factory(groups)
        scheduler = self._members[0].scheduler_factory(
            optimizer, total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def _members(self) -> list[PromptModule]:
        return cast(list[PromptModule], self.__dict__["members"])

    def _group_of(self, at: int) -> dict[str, float]:
        first = next(self.prompts[at].parameters())
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        return next(
            group
            for group in optimizer.param_groups
            if any(parameter is first for parameter in group["params"])
        )

    def _diverged(self, at: int) -> TrainingError:
        return TrainingError(
            f"the loss is no longer finite at step {self.global_step} with learning rate "
            f"{self._group_of(at)['lr']:g}; lower optimizer.lr, or set scheduler.warmup_fraction=0.1."
        )

    def _stop(self, at: int, error: TrainingError) -> None:
        self.failures[at] = error
        self.prompts[at].requires_grad_(False)


class JointData(LightningDataModule):
    """Each member's training batches, side by side."""

    def __init__(self, members: Sequence[PromptData]) -> None:
        super().__init__()
        self.members = members

    def train_dataloader(self) -> CombinedLoader:
        for member in self.members:
            member.trainer = self.trainer  # whose loop tells where a pass that was cut off goes on
        return CombinedLoader([member.train_dataloader() for member in self.members], "min_size")
