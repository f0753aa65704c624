"""Cartridges (Eyuboglu et al. 2025, arXiv 2506.06266, section 3): a trained cache that starts as a text's.

Prefix tuning whose keys and values start as those of the text's first P tokens, and whose first tokens stay
as they are: texts give the first position much of their attention whatever it holds (an attention sink), and
training that moves it makes training unstable.

It differs from the paper in what a short text does (it is repeated; the paper's are longer than P) and leaves
the objective to `objective`: the paper's distillation is objective=context_distillation, on the task's rows
instead of conversations that the model makes up about the text.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser


class Cartridge(SoftPrompt):
    """The keys and values behind the first F tokens: (P - F) L H (K of keys + K of values) parameters."""

    in_layers = True
    sink_keys_LHFK: Tensor
    sink_values_LHFK: Tensor

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        num_frozen: int,
    ) -> None:
        super().__init__()
        spec.expect_prefixes()
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        keys_LHPK, values_LHPK = spec.key_values(start_PD)
        self.register_buffer("sink_keys_LHFK", keys_LHPK[:, :, :num_frozen].contiguous())
        self.register_buffer("sink_values_LHFK", values_LHPK[:, :, :num_frozen].contiguous())
        self.keys_LHpK = nn.Parameter(keys_LHPK[:, :, num_frozen:].contiguous())
        self.values_LHpK = nn.Parameter(values_LHPK[:, :, num_frozen:].contiguous())

    def forward(self) -> PromptBank:
        keys_LHPK = torch.cat([self.sink_keys_LHFK, self.keys_LHpK], dim=2)
        values_LHPK = torch.cat([self.sink_values_LHFK, self.values_LHpK], dim=2)
        return PromptBank(keys_TLHPK=keys_LHPK[None], values_TLHPK=values_LHPK[None])
