"""Instance-dependent prompts (IDPG, Wu et al. 2022, arXiv 2204.04497, section 3.2).

A row's prompt is what a bottleneck of two linear maps makes of the row: W2 relu(W1 x + b1) + b2, of P D
numbers. The columns of W2 are prompts, and the hidden units weigh them: the bank holds them and b2 as its
last.

What differs from the paper. x is the mean embedding of the row's words (the paper's variant with GloVe
vectors does alike), normalised; its other variants run a second encoder over the row. The prompt stands in
front of the first layer alone. W2 starts small and b2 at the initialiser's vectors, so that training begins
close to prompt tuning. The parametrised hypercomplex variant, which shares numbers within W2, is left out.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.row_rules import RowRule

COLUMN_STD = 0.01
"""Standard deviation of W2 at the start."""


class BottleneckPrompt(SoftPrompt):
    """M hidden units: D M + M + (M + 1) P D parameters."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        hidden_size: int,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        start_PD = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        columns_MPD = COLUMN_STD * torch.randn(hidden_size, *start_PD.shape, generator=generator)
        self.embeddings_TPD = nn.Parameter(torch.cat([columns_MPD, start_PD[None]]))
        self.down_DM = nn.Parameter(torch.randn(width, hidden_size, generator=generator) * width**-0.5)
        self.bias_M = nn.Parameter(torch.zeros(hidden_size))

    def forward(self) -> PromptBank:
        rule = RowRule(kind="bottleneck", tensors={"down_DM": self.down_DM, "bias_M": self.bias_M})
        return PromptBank(embeddings_TPD=self.embeddings_TPD, row_rule=rule)
