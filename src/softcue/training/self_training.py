"""Self-training: a prompt learns from labelled rows, and from what earlier prompts say of unlabelled ones.

The loss is the language-model loss, expected under each row's class probabilities: 1 for the right class of
a labelled row; for an unlabelled row the mean of its teachers' probabilities (soft pseudo-labels, as in noisy
student training, Xie et al. 2020, arXiv 1911.04252, section 2, without its noise). With labelled rows alone
it is the language-model loss. A teacher's probabilities of a row never change, so each row runs once, alone,
for the reason that `distillation` gives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from softcue.backbone.base import Backbone
from softcue.contracts import Batch, Choices, Ids, PromptBank
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.training.distillation import Teachers
from softcue.training.objectives import BatchLoss, Objective


class SelfTraining(Objective):
    """Minus the expected log-likelihood of label tokens, per expected token, in nats.

    `unlabelled` weighs a row without a label beside one with it.

    Raises:
        ConfigError: no teachers, or those of another task, layout or backbone.
    """

    needs_classes = True

    def __init__(
        self, *, teachers: Sequence[str], tasks: Sequence[str], layout: str, unlabelled: float
    ) -> None:
        if not teachers:
            raise ConfigError("objective.teachers is []; give the folders of one or more complete runs.")
        self.teachers, self.unlabelled = Teachers(teachers, layout=layout), unlabelled
        for run, metadata in zip(teachers, self.teachers.metadata, strict=True):
            if metadata.get("task") not in tasks:
                raise ConfigError(
                    f"objective.teachers: {run} was trained for {metadata.get('task')}, and this run is for "
                    f"{tasks[0]}; give runs of this task."
                )
        self._shares_of: dict[tuple[Ids, Choices], Tensor] = {}

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        self.teachers.expect_trained_on(lm)
        scores = lm.score(bank, batch, batch.choices)
        share_BC = self._shares(lm, batch, scoring, num_classes=scores.num_tokens_BC.shape[1])
        expected = (share_BC * scores.num_tokens_BC).sum()
        return BatchLoss(mean=-(share_BC * scores.log_likelihood_BC).sum() / expected, weight=expected)

    def _shares(self, lm: Backbone, batch: Batch, scoring: Scoring, *, num_classes: int) -> Tensor:
        """The probability of each class of each row, times the row's weight: [B, C]."""
        share_BC = one_hot(batch.target_B.clamp(min=0), num_classes).float()
        for at in (batch.target_B < 0).nonzero().flatten().tolist():
            key = batch.rows[at], batch.choices[at]
            if key not in self._shares_of:
                self._shares_of[key] = self._run_teachers(lm, batch.select([at]), scoring)
            share_BC[at] = self.unlabelled * self._shares_of[key]
        return share_BC

    @torch.no_grad()
    def _run_teachers(self, lm: Backbone, row: Batch, scoring: Scoring) -> Tensor:
        """The teachers' mean probabilities of a row's classes: [C]."""
        bank = self.teachers.bank.to(lm.device)
        rows = row.repeat_for_members(bank.num_prompts)
        # In the weights' own precision: later steps use these numbers with autocast and without.
        with torch.autocast(lm.device.type, enabled=False):
            return scoring.scores_BC(lm.score(bank, rows, rows.choices)).softmax(dim=1).mean(dim=0)
