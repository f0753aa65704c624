"""A saved prompt before its numbers are read: its shape is known and checked first.

Letters as in contracts.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from softcue.contracts import BackboneSpec, PromptBank


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

    @property
    def in_layers(self) -> bool:
        """Whether the prompt is keys and values, not embeddings."""
        return "layers" in self.sizes

    @property
    def form(self) -> str:
        """What the numbers are, in words."""
        return "keys and values" if self.in_layers else "embeddings"


def embedding_sizes(*, hidden_size: int) -> dict[str, int]:
    """The sizes of a virtual token that is an embedding."""
    return {"hidden size": hidden_size}


def key_value_sizes(*, layers: int, heads: int, key_size: int, value_size: int) -> dict[str, int]:
    """The sizes of a virtual token that is keys and values."""
    return {"layers": layers, "key-value heads": heads, "key size": key_size, "value size": value_size}


def model_sizes(spec: BackboneSpec, *, in_layers: bool) -> dict[str, int]:
    """The sizes that a virtual token for this model has; ConfigError if the model takes no such prompt."""
    if not in_layers:
        return embedding_sizes(hidden_size=spec.hidden_size)
    spec.expect_prefixes()
    return key_value_sizes(
        layers=spec.num_layers,
        heads=spec.num_kv_heads,
        key_size=spec.head_size,
        value_size=spec.value_size,
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
