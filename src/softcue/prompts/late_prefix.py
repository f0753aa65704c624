"""Prefix tuning of the upper layers alone (P-tuning v2, Liu et al. 2022, arXiv 2110.07602, section 4.3).

The paper adds its keys and values to more or fewer layers, and finds the upper ones worth more than the
lower. Its classification head is left out: labels are scored as everywhere here. Positions count the prefix
from the layer that it enters on, and words alone below.
"""

from __future__ import annotations

from torch import Generator

from softcue.contracts import BackboneSpec, PromptBank
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.late import FIRST_LAYER
from softcue.prompts.prefix_tuning import PrefixTuning


class LatePrefix(PrefixTuning):
    """Keys and values in l upper layers: P l H (K of keys + K of values) parameters.

    Raises:
        ConfigError: the model has no such layer, or takes no prompt there.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        through_backbone: bool,
        first_layer: int | None,
    ) -> None:
        self.first_layer = spec.entry(first_layer, name=FIRST_LAYER)
        super().__init__(
            spec=spec.from_layer(self.first_layer),
            num_virtual_tokens=num_virtual_tokens,
            generator=generator,
            initialiser=initialiser,
            through_backbone=through_backbone,
        )

    def forward(self) -> PromptBank:
        return PromptBank(
            keys_TLHPK=self.keys_LHPK[None], values_TLHPK=self.values_LHPK[None], first_layer=self.first_layer
        )
