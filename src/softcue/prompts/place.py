"""Where in an encoder-decoder a method's prompt stands: in one input or both, in all attentions or some.

Every method makes one bank, as for a causal model; its virtual tokens are divided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError

MakePrompt = Callable[..., SoftPrompt]
"""A method that lacks `spec` and `num_virtual_tokens`."""


def place(
    method: MakePrompt,
    *,
    spec: BackboneSpec,
    num_virtual_tokens: int,
    submodules: int | None,
    attentions: Sequence[str] | None,
) -> SoftPrompt:
    """The untrained prompt: `num_virtual_tokens` in each of `submodules` inputs, or in these attentions.

    Raises:
        ConfigError: the model has fewer inputs or no such attention, or the setting is for the other form
            of prompts.
    """
    spec.expect_submodules(submodules or 1)
    count = num_virtual_tokens * (submodules or 1)
    prompt = method(spec=spec.only(attentions), num_virtual_tokens=count)
    key, given = ("submodules", submodules) if prompt.in_layers else ("attentions", attentions)
    if given is not None:
        form = "keys and values" if prompt.in_layers else "embeddings"
        raise ConfigError(
            f"prompt.{key} is {given}, and {type(prompt).__name__} makes {form}, for which it "
            f"has no meaning. Set prompt.{key}=null."
        )
    if submodules in (1, None) and attentions is None:
        return prompt
    return PlacedPrompt(prompt, attentions=[name for name in spec.attentions if name in (attentions or ())])


class PlacedPrompt(SoftPrompt):
    """A method's prompt for both inputs, the encoder's virtual tokens first, or for some attentions."""

    def __init__(self, method: SoftPrompt, *, attentions: Sequence[str]) -> None:
        super().__init__()
        self.method, self._attentions = method, tuple(attentions) or None
        self.in_layers, self.in_front = method.in_layers, method.in_front
        self.in_one_slot, self.own_labels = method.in_one_slot, method.own_labels

    def forward(self) -> PromptBank:
        bank: PromptBank = self.method()
        if bank.embeddings_TPD is None:
            return replace(bank, attentions=self._attentions)
        encoder_TPD, decoder_TPD = bank.embeddings_TPD.chunk(2, dim=1)
        return replace(bank, embeddings_TPD=encoder_TPD, decoder_embeddings_TPD=decoder_TPD)

    def after_update(self) -> None:
        self.method.after_update()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self.method.parameter_groups()

    def extra_state(self) -> dict[str, Tensor]:
        return self.method.extra_state()
