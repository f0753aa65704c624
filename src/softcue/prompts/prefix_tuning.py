"""Prefix tuning (Li & Liang 2021, arXiv 2101.00190, section 4): keys and values in every layer."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.seeding import seeded


class PrefixTuning(SoftPrompt):
    """Keys and values in every layer: P L H (K of keys + K of values) parameters.

    With `through_backbone` the prefix starts as the keys and values that the frozen model computes from
    the initialiser's embeddings; its first step then predicts what prompt tuning with the same
    initialiser does. Without, the initialiser draws the keys and values themselves.
    """

    in_layers = True

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        through_backbone: bool,
    ) -> None:
        super().__init__()
        spec.expect_prefixes()
        width = spec.hidden_size if through_backbone else spec.key_value_width
        start = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        if through_backbone:
            keys_LHPK, values_LHPK = spec.key_values(start)
        else:
            keys_LHPK, values_LHPK = as_key_values(start, spec)
        self.keys_LHPK = nn.Parameter(keys_LHPK.contiguous())
        self.values_LHPK = nn.Parameter(values_LHPK.contiguous())

    def forward(self) -> PromptBank:
        return PromptBank(keys_TLHPK=self.keys_LHPK[None], values_TLHPK=self.values_LHPK[None])


class ProjectedPrefixTuning(SoftPrompt):
    """Embeddings and an MLP: P H K + (H K + 1) m + (m + 1) L H (K of keys + K of values) parameters.

    The MLP (Linear, Tanh, Linear) of width m computes the keys and values from smaller embeddings, which have
    the width of one layer's keys (section 4.3).
    """

    in_layers = True

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
        spec.expect_prefixes()
        width = spec.num_kv_heads * spec.head_size
        self.spec = spec
        self.input_PE = nn.Parameter(
            initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        )
        with seeded(generator):
            self.mlp = nn.Sequential(
                nn.Linear(width, hidden_size),
                nn.Tanh(),
                nn.Linear(hidden_size, spec.key_value_width),
            )

    def forward(self) -> PromptBank:
        flat_PW: Tensor = self.mlp(self.input_PE)
        keys_LHPK, values_LHPK = as_key_values(flat_PW, self.spec)
        return PromptBank(keys_TLHPK=keys_LHPK[None], values_TLHPK=values_LHPK[None])


def as_key_values(flat_PW: Tensor, spec: BackboneSpec) -> tuple[Tensor, Tensor]:
    """Split each token's numbers [P, W], layer by layer, keys before values, into [L, H, P, K] each."""
    heads, widths = spec.num_kv_heads, [spec.head_size, spec.value_size]
    by_layer_PLW = flat_PW.unflatten(1, (spec.num_layers, -1))
    keys_PLW, values_PLW = by_layer_PLW.split([heads * width for width in widths], dim=2)
    keys_PLHK, values_PLHK = keys_PLW.unflatten(2, (heads, -1)), values_PLW.unflatten(2, (heads, -1))
    return keys_PLHK.permute(1, 2, 0, 3), values_PLHK.permute(1, 2, 0, 3)
