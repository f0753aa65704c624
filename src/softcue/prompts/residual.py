"""Residual prompt tuning (Razdaibiedina et al. 2023, arXiv 2305.03937, section 3).

Token i's embedding is P_i + LayerNorm(W_up ReLU(W_down P_i)): one network for all tokens, or one for each.

It differs from the paper in one number. The norm's gain starts at `gain` times the standard deviation of
P, where the paper has 1: that suits T5, whose embeddings are large, but it would drown the start of a prompt
for a model with embeddings near 0.1.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import layer_norm

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.seeding import seeded


class ResidualPrompt(SoftPrompt):
    """Embeddings and a network of width m: P D + 2 D m + m + 3 D parameters.

    With `separate` each of the P tokens has a network of its own."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        hidden_size: int,
        separate: bool,
        gain: float,
    ) -> None:
        super().__init__()
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        self.input_PD = nn.Parameter(start_PD)
        with seeded(generator):
            self.networks = nn.ModuleList(
                _network(spec.hidden_size, hidden_size) for _ in range(num_virtual_tokens if separate else 1)
            )
        self.gain_ND = nn.Parameter(
            torch.full((len(self.networks), spec.hidden_size), gain * _spread(start_PD))
        )
        self.shift_ND = nn.Parameter(torch.zeros(len(self.networks), spec.hidden_size))

    def forward(self) -> PromptBank:
        output_PD = self._networks_output()
        branch_PD = layer_norm(output_PD, output_PD.shape[1:]) * self.gain_ND + self.shift_ND
        return PromptBank(embeddings_TPD=(self.input_PD + branch_PD)[None])

    def _networks_output(self) -> Tensor:
        if len(self.networks) == 1:
            shared_PD: Tensor = self.networks[0](self.input_PD)
            return shared_PD
        pairs = zip(self.networks, self.input_PD, strict=True)
        return torch.stack([network(input_D) for network, input_D in pairs])


def _network(width: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden_size), nn.ReLU(), nn.Linear(hidden_size, width))


def _spread(start_PD: Tensor) -> float:
    return float(start_PD.std())
