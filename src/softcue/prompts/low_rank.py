"""Low-rank prompts: P = A B (DPT, Xiao et al. 2023, arXiv 2310.10094, section 3; LoPT, arXiv 2406.19486).

It differs from the papers in its start. Both draw A and B at random; here they are the best approximation of
the initialiser's vectors (Eckart & Young 1936), so that the method starts close to where prompt tuning does.
A's columns have a mean square of 1, which leaves B in the scale of embeddings, as the learning rate expects.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser


class LowRankPrompt(SoftPrompt):
    """A [P, r] and B [r, D]: r (P + D) parameters."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        rank: int,
    ) -> None:
        super().__init__()
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        # Columns of U are orthonormal even where the start has a lower rank, so every row of B can learn.
        left_PR, singular_R, right_RD = torch.linalg.svd(start_PD, full_matrices=False)
        scale = num_virtual_tokens**0.5
        self.left_Pr = nn.Parameter(left_PR[:, :rank] * scale)
        self.right_rD = nn.Parameter(singular_R[:rank, None] * right_RD[:rank] / scale)

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=(self.left_Pr @ self.right_rD)[None])
