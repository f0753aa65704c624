"""Context distillation (Snell et al. 2022, arXiv 2209.15189), as Cartridges use it (arXiv 2506.06266).

The teacher is the frozen model itself with a text in front of the row; the prompt learns to stand for the
text. Both are compared where the label words of every class are predicted, so the right labels are not
needed. A teacher's row never changes and runs once, alone, for the reason that `distillation` gives.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.contracts import Batch, Choices, Ids, PaddedRows, PromptBank
from softcue.data.encode import special_tokens
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.training.distillation import divergence
from softcue.training.objectives import BatchLoss, Objective


class ContextDistillation(Objective):
    """KL(teacher || student) of the next-token distributions in nats, plus `labels` times the label loss.

    The divergence is the mean over all positions of a batch that predict a token of some class's label.

    Raises:
        ConfigError: an empty text, or one that leaves a row too little room in the model.
    """

    def __init__(self, *, text: str, labels: float) -> None:
        if not text.strip():
            raise ConfigError(f"objective.text is {text!r}; give the text that the prompt is to stand for.")
        self.text, self.labels = text, labels
        self._states_of: dict[tuple[Ids, Choices], Tensor] = {}

    def __call__(self, lm: Backbone, bank: PromptBank, batch: Batch, scoring: Scoring) -> BatchLoss:
        states = lm.states(bank, batch, batch.choices)
        keys = list(zip(batch.rows, batch.choices, strict=True))
        for at, key in enumerate(keys):
            if key not in self._states_of:
                self._states_of[key] = self._run_teacher(lm, batch.select([at]))
        teacher_MD = torch.cat([self._states_of[key] for key in keys])
        mean = divergence(lm, teacher_MD, states.hidden_MD)
        if self.labels:
            mean = mean + self.labels * label_loss(lm.read_scores(states), batch.target_B)
        return BatchLoss(mean=mean, weight=mean.new_tensor(len(teacher_MD)))

    @torch.no_grad()
    def _run_teacher(self, lm: Backbone, row: Batch) -> Tensor:
        own = tuple(token for token in row.rows[0] if token >= 0)
        front, _ = special_tokens(lm.tokenizer)
        # As if the text were a part of the row: what starts every row comes first, once.
        told = (*own[: len(front)], *lm.spec.tokenize(self.text), *own[len(front) :])
        longest = len(told) + max(map(len, row.choices[0]))
        if longest > lm.spec.max_positions:
            raise ConfigError(
                f"objective.text and a row have {longest} tokens together, and {lm.spec.name} has "
                f"{lm.spec.max_positions} positions; give a shorter text, or a smaller data.max_length."
            )
        padded = None if row.padded is None else PaddedRows.of([told])
        with torch.autocast(lm.device.type, enabled=False):
            return lm.states(PromptBank(), replace(row, rows=(told,), padded=padded), row.choices).hidden_MD


def label_loss(scores: TargetScores, target_B: Tensor) -> Tensor:
    """Mean negative log-likelihood of the right label's tokens, from the scores of all classes."""
    target_B1 = target_B[:, None]
    return (
        -scores.log_likelihood_BC.gather(1, target_B1).sum() / scores.num_tokens_BC.gather(1, target_B1).sum()
    )
