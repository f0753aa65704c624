"""Sparse mixture of prompts (SMoP, Choi et al. 2023, arXiv 2310.05149, section 3).

A linear router sees the mean embedding of a row's words and sends the row to one of K short prompts, whose
embeddings are multiplied by the router's probability for it, so that the router has a gradient. While
training, the router's outputs have relative Gaussian noise (the paper's router perturbation), which spreads
rows over the prompts.

What differs from the paper. The mean embedding is normalised first, since a decoder's embeddings are much
smaller than T5's and the router would give all prompts the same probability. The row's words are those of
the template too. The noise of a row depends on the run's seed, the step and the row's number modulo R, so
that a resumed run, or runs that train jointly, draw the same.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.row_rules import NOISE, RowRule

NOISY_ROWS = 64
"""R: rows with noise of their own; rows of a batch seldom have the same number modulo R."""


class RoutedPrompt(SoftPrompt):
    """K prompts of P vectors and a router without bias: K P D + D K parameters."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        num_prompts: int,
        noise: float,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        start_ND = initialiser.vectors(
            spec, num_tokens=num_prompts * num_virtual_tokens, width=width, generator=generator
        )
        self.embeddings_KPD = nn.Parameter(start_ND.unflatten(0, (num_prompts, -1)).contiguous())
        router_DK = torch.empty(width, num_prompts)
        self.router_DK = nn.Parameter(nn.init.orthogonal_(router_DK, generator=generator))
        self.noise = noise

    def forward(self) -> PromptBank:
        tensors: dict[str, Tensor] = {"router_DT": self.router_DK}
        if self.training and self.noise:
            shape = NOISY_ROWS, self.router_DK.shape[1]
            tensors[NOISE] = self.noise * torch.randn(shape, device=self.router_DK.device)
        return PromptBank(embeddings_TPD=self.embeddings_KPD, row_rule=RowRule(kind="top_1", tensors=tensors))
