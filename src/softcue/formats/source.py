"""A saved prompt before its numbers are read: its shape is known and checked first.

Letters as in contracts.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from softcue.contracts import BackboneSpec, PromptBank
from softcue.row_rules import Kind

Form = Literal["embeddings", "keys and values"]


@dataclass(frozen=True, kw_only=True)
class PromptShape:
    """How many prompts there are, of how many virtual tokens, and the sizes of one virtual token.

    `sizes` are those of the model that the prompt is for: its hidden size, or of keys and values its
    layers, heads and their sizes. A prompt without virtual tokens has none.
    """

    num_prompts: int
    num_tokens: int
    """P: virtual tokens of the longest prompt."""
    sizes: Mapping[str, int]
    submodules: int = 1
    """How many inputs of the model have virtual tokens: 2 for the encoder's and the decoder's."""
    attentions: tuple[str, ...] | None = None
    """The kinds of attention that keys and values are for; None: all."""
    first_layer: int = 0
    """The layer at whose input the prompts enter."""
    row_rule: Kind | None = None
    """How rows mix the prompts into one of their own, which counts as one here; None: not at all."""

    @property
    def form(self) -> Form:
        """What the numbers are."""
        return "keys and values" if "layers" in self.sizes else "embeddings"


def embedding_sizes(*, hidden_size: int) -> dict[str, int]:
    """The sizes of a virtual token that is an embedding."""
    return {"hidden size": hidden_size}


def key_value_sizes(*, layers: int, heads: int, key_size: int, value_size: int) -> dict[str, int]:
    """The sizes of a virtual token that is keys and values."""
    return {"layers": layers, "key-value heads": heads, "key size": key_size, "value size": value_size}


def shape_of(bank: PromptBank) -> PromptShape:
    """The shape of a bank that is at hand."""
    sizes: dict[str, int] = {}
    if bank.embeddings_TPD is not None:
        sizes = embedding_sizes(hidden_size=bank.embeddings_TPD.shape[2])
    elif bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        _, layers, heads, _, key_size = bank.keys_TLHPK.shape
        value_size = bank.values_TLHPK.shape[4]
        sizes = key_value_sizes(layers=layers, heads=heads, key_size=key_size, value_size=value_size)
    return PromptShape(
        num_prompts=bank.num_prompts,
        row_rule=None if bank.row_rule is None else bank.row_rule.kind,
        num_tokens=max(bank.num_virtual_tokens),
        sizes=sizes,
        submodules=1 if bank.decoder_embeddings_TPD is None else 2,
        first_layer=bank.first_layer,
        attentions=bank.attentions,
    )


def model_sizes(spec: BackboneSpec, shape: PromptShape) -> dict[str, int]:
    """The sizes that a virtual token of such a prompt has in this model.

    Raises:
        ConfigError: the model takes no such prompt.
    """
    spec.expect_submodules(shape.submodules)
    first_layer = spec.entry(shape.first_layer, name="the prompt's first layer")
    if shape.form == "embeddings":
        return embedding_sizes(hidden_size=spec.hidden_size)
    spec.expect_prefixes()
    own = spec.only(shape.attentions)
    return key_value_sizes(
        layers=own.num_layers - first_layer,
        heads=own.num_kv_heads,
        key_size=own.head_size,
        value_size=own.value_size,
    )


@dataclass(frozen=True, kw_only=True)
class PromptSource(ABC):
    """A file or folder that holds prompts."""

    shape: PromptShape
    made_for: str | None
    """The frozen model, as the file names it."""
    layout: str | None
    """The layout that the prompt was trained in, if the file names it."""

    @abstractmethod
    def bank(self) -> PromptBank:
        """The prompts: fp32, every number finite.

        Raises:
            RunError: a damaged file.
        """
