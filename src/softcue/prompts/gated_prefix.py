"""Prefixes behind gates that start at zero (LLaMA-Adapter, Zhang et al. 2023, arXiv 2303.16199, section 3.2).

Each head of each layer has a gate g, and tanh(g) multiplies what its prefix contributes. The paper gives
prefix and row a softmax of their own each, and scales the prefix's; here the gate folds into the values, so
that what ships is an ordinary bank of keys and values and runs wherever prefix tuning does.

A softmax over both is the price. With the gates at zero the prefix adds nothing, but its keys still take
their share of attention from the row: no scale of a key can undo that for every query. It then is exactly
a prefix of zero values (a sink), not exactly the model without a prefix. The paper gates the upper layers
only; here all layers have a prefix.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.prefix_tuning import PrefixTuning


class GatedPrefix(PrefixTuning):
    """Keys and values, and L H gates: L H (P (K of keys + K of values) + 1) parameters."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        through_backbone: bool,
        gate: float,
    ) -> None:
        super().__init__(
            spec=spec,
            num_virtual_tokens=num_virtual_tokens,
            generator=generator,
            initialiser=initialiser,
            through_backbone=through_backbone,
        )
        self.gate_LH = nn.Parameter(torch.full((spec.num_layers, spec.num_kv_heads), gate))

    def forward(self) -> PromptBank:
        values_LHPK = self.values_LHPK * self.gate_LH.tanh()[:, :, None, None]
        return PromptBank(keys_TLHPK=self.keys_LHPK[None], values_TLHPK=values_LHPK[None])
