"""The gradient of each training row's loss with regard to a prompt: what methods measure importance by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.contracts import Batch, Ids, PaddedRows, PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import Objective


def row_gradients(
    lm: Backbone,
    objective: Objective,
    scoring: Scoring,
    batches: Sequence[Batch],
    embeddings_PD: Tensor,
) -> Tensor:
    """Gradients with regard to embeddings, which take the place of the rows' only slot: [B, P, D].

    Every row has a copy of the prompt, so one pass gives the gradients of all rows of a batch.
    """
    found = []
    for batch in batches:
        copies_BPD = embeddings_PD.to(lm.device).expand(len(batch), -1, -1).clone().requires_grad_()
        placed = with_slot_of(batch, len(embeddings_PD)).to(lm.device)
        losses = objective.losses(
            lm,
            [PromptBank(embeddings_TPD=own_PD[None]) for own_PD in copies_BPD],
            [placed.select([row]) for row in range(len(batch))],
            scoring,
        )
        (gradient_BPD,) = torch.autograd.grad(torch.stack([loss.mean for loss in losses]).sum(), copies_BPD)
        found.append(gradient_BPD.cpu())
    return torch.cat(found)


def with_slot_of(batch: Batch, num_tokens: int) -> Batch:
    """The same rows with another number of virtual tokens in their only slot."""
    rows = tuple(_with_slot_of(row, num_tokens) for row in batch.rows)
    return replace(batch, rows=rows, padded=None if batch.padded is None else PaddedRows.of(rows))


def _with_slot_of(row: Ids, num_tokens: int) -> Ids:
    first, count = row.index(-1), sum(token < 0 for token in row)
    return (*row[:first], *range(-1, -1 - num_tokens, -1), *row[first + count :])
