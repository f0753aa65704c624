"""Prompt distillation (Wang et al. 2023, section 3.2): a multitask prompt learns from single-task ones.

The teacher of a row is the trained prompt of the row's task on the same frozen model. Its states for a
row never change, so each row runs once. It runs alone because the last digits of a matrix product depend
on the other rows in it, and a resumed run may first meet a row in another batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.checkpoint import checkpoint

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import LOGITS_AT_ONCE
from softcue.contracts import Batch, Choices, Ids, PromptBank
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import load_bank
from softcue.training.objectives import BatchLoss, LanguageModelLoss, Objective

RowKey = tuple[int, Choices, Ids]
"""A row's prompt, its class and its ids."""


class Teachers:
    """The prompts of complete runs as one bank, for rows in this run's layout.

    Raises:
        ConfigError: a run with another layout.
        RunError: no complete run.
    """

    def __init__(self, runs: Sequence[str], *, layout: str) -> None:
        loaded = [load_bank(Path(run) / "prompt.safetensors") for run in runs]
        for run, (_, metadata) in zip(runs, loaded, strict=True):
            if metadata["layout"] != layout:
                raise ConfigError(
                    f"objective.teachers: {run} has layout {metadata['layout']!r} and this run has "
                    f"{layout!r}; teacher and student read the same rows, so give both the same layout."
                )
        self.metadata = [metadata for _, metadata in loaded]
        self.bank = PromptBank.concat([bank for bank, _ in loaded])

    def expect_trained_on(self, lm: Backbone) -> None:
        """Refuse another model than the teachers'."""
        backbones = {metadata["backbone"] for metadata in self.metadata}
        if backbones != {lm.spec.name}:
            raise ConfigError(
                f"objective.teachers were trained on {sorted(backbones)}, and this run's backbone is "
                f"{lm.spec.name}; train the teachers on it."
            )


class Distillation(Objective):
    """The label loss, plus `logits` times equation 2 and `hidden` times equation 3.

    Both are means over the M positions that predict label tokens. Equation 2: the divergence
    KL(teacher || student) of the next-token distributions, in nats. Equation 3: the mean squared
    difference of the final hidden states. A weight of 0 omits the term.

    Raises:
        ConfigError: teachers that do not match the tasks, the backbone or the layout, or negative weights.
    """

    def __init__(
        self, *, teachers: Sequence[str], tasks: Sequence[str], layout: str, logits: float, hidden: float
    ) -> None:
        if min(logits, hidden) < 0:
            raise ConfigError(f"objective has logits={logits} and hidden={hidden}; weights are 0 or more.")
        if len(teachers) != len(tasks):
            raise ConfigError(
                f"objective.teachers names {len(teachers)} runs for the tasks {list(tasks)}; give one "
                "complete run for each task, in this order."
            )
        self.logits, self.hidden = logits, hidden
        self.label_loss = LanguageModelLoss()
        self.teachers = Teachers(teachers, layout=layout)
        if self.teachers.bank.num_prompts != len(teachers):
            raise ConfigError(
                f"objective.teachers are {len(teachers)} runs with {self.teachers.bank.num_prompts} prompts, "
                "and each task is taught by one; give runs of a single prompt."
            )
        self._states_of: dict[RowKey, Tensor] = {}

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        self.teachers.expect_trained_on(lm)
        states = lm.states(bank, batch, batch.target_choices)
        loss = self.label_loss.loss(lm.read_scores(states), batch.target_B, scoring)
        if not (self.logits or self.hidden):
            return loss
        teacher_MD = self._teacher_states(lm, batch)
        mean = loss.mean
        if self.logits:
            mean = mean + self.logits * divergence(lm, teacher_MD, states.hidden_MD)
        if self.hidden:
            mean = mean + self.hidden * mse_loss(states.hidden_MD.float(), teacher_MD.float())
        return BatchLoss(mean=mean, weight=loss.weight)

    def _teacher_states(self, lm: Backbone, batch: Batch) -> Tensor:
        """The teachers' final hidden states at the positions that predict label tokens: [M, D]."""
        prompts, targets = batch.prompt_B.tolist(), batch.target_choices
        keys: list[RowKey] = list(zip(prompts, targets, batch.rows, strict=True))
        for at, key in enumerate(keys):
            if key not in self._states_of:
                self._states_of[key] = self._run_teacher(lm, batch.select([at]))
        return torch.cat([self._states_of[key] for key in keys])

    @torch.no_grad()
    def _run_teacher(self, lm: Backbone, row: Batch) -> Tensor:
        # In the weights' own precision: later steps use these states with autocast and without.
        with torch.autocast(lm.device.type, enabled=False):
            return lm.states(self.teachers.bank.to(lm.device), row, row.target_choices).hidden_MD


def divergence(lm: Backbone, teacher_MD: Tensor, student_MD: Tensor) -> Tensor:
    """KL(teacher || student) of the next-token distributions, in nats: the mean over M positions."""
    at_once = max(1, LOGITS_AT_ONCE // lm.spec.vocab_size)

    def chunk(teacher_mD: Tensor, student_mD: Tensor) -> Tensor:
        teacher_mV = lm.logits(teacher_mD).log_softmax(dim=-1)
        student_mV = lm.logits(student_mD).log_softmax(dim=-1)
        return (teacher_mV.exp() * (teacher_mV - student_mV)).sum()

    chunks = [
        # Recomputed in the backward pass, which would otherwise keep the logits of all chunks until then.
        checkpoint(chunk, teacher_mD, student_mD, use_reentrant=False)
        for teacher_mD, student_mD in zip(teacher_MD.split(at_once), student_MD.split(at_once), strict=True)
    ]
    return torch.stack(chunks).sum() / len(teacher_MD)
