"""What the rooms say to each other: the frozen model's shape, a bank of prompts, a batch of rows.

Shape legend, used everywhere: B rows, T positions (in a batch) or prompts (in a bank), P virtual
tokens, D hidden size, L layers, H key-value heads, K head size, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Choices = tuple[tuple[int, ...], ...]
"""The label tokens of each class, in class order; an end token is part of them if asked for."""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """What a soft-prompt method may know of a frozen model."""

    name: str
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_size: int
    max_positions: int
    num_parameters: int
    embedding_VD: Tensor
    tokenize: Callable[[str], list[int]]
    """Text to vocabulary ids, without special tokens."""
    key_values: Callable[[Tensor], tuple[Tensor, Tensor]]
    """Embeddings [P, D], run from position 0, to their keys and values [L, H, P, K] each."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table: V."""
        return self.embedding_VD.shape[0]

    @property
    def key_value_width(self) -> int:
        """Numbers one token's keys and values take over all layers: 2 L H K."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size


@dataclass(frozen=True, kw_only=True)
class PromptBank:
    """T prompts of P virtual tokens, in one of the two forms a frozen model takes them.

    Embeddings stand wherever a row holds a virtual token; keys and values stand in front of the
    row in every layer. A bank with neither is the empty prompt: plain text.
    """

    embeddings_TPD: Tensor | None = None
    keys_TLHPK: Tensor | None = None
    values_TLHPK: Tensor | None = None

    def __post_init__(self) -> None:
        assert (self.keys_TLHPK is None) == (self.values_TLHPK is None)
        assert self.embeddings_TPD is None or self.keys_TLHPK is None

    @property
    def num_prefix_positions(self) -> int:
        """Positions that keys and values take in front of every row."""
        return 0 if self.keys_TLHPK is None else self.keys_TLHPK.shape[3]

    @property
    def num_embeddings(self) -> int:
        """Virtual tokens that a row of this bank may name."""
        return 0 if self.embeddings_TPD is None else self.embeddings_TPD.shape[1]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors this bank holds, by field name."""
        fields = {
            "embeddings_TPD": self.embeddings_TPD,
            "keys_TLHPK": self.keys_TLHPK,
            "values_TLHPK": self.values_TLHPK,
        }
        return {name: tensor for name, tensor in fields.items() if tensor is not None}

    def to(self, device: torch.device) -> PromptBank:
        """The same prompts on another device."""
        return PromptBank(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def detach(self) -> PromptBank:
        """The same prompts, folded: contiguous tensors without a graph behind them."""
        return PromptBank(**{name: t.detach().contiguous() for name, t in self.tensors().items()})


class SoftPrompt(nn.Module, ABC):
    """A soft-prompt method: trainable parameters that make a bank of prompts.

    `in_layers` says which form the bank takes: False, embeddings that a layout may place anywhere
    in a row; True, keys and values that only ever stand in front.
    """

    in_layers: bool = False

    @abstractmethod
    def forward(self) -> PromptBank:
        """The prompts as they stand now, with gradients to this module's parameters."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Left-padded rows and what may follow them.

    `ids_BT >= 0` is a vocabulary token, `-1 - k` is virtual token k; `real_BT` is False on padding.
    `choices[b]` are the label tokens of each class that row b may continue with; `target_B` is the
    index of the right one, -1 where the row has no label. `prompt_B` says which prompt of the bank
    the row wears, `row_B` which row of its table it is.
    """

    ids_BT: Tensor
    real_BT: Tensor
    choices: tuple[Choices, ...]
    target_B: Tensor
    prompt_B: Tensor
    row_B: Tensor

    def __len__(self) -> int:
        return self.ids_BT.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device (Lightning calls this)."""
        return Batch(
            ids_BT=self.ids_BT.to(device, non_blocking=non_blocking),
            real_BT=self.real_BT.to(device, non_blocking=non_blocking),
            choices=self.choices,
            target_B=self.target_B.to(device, non_blocking=non_blocking),
            prompt_B=self.prompt_B.to(device, non_blocking=non_blocking),
            row_B=self.row_B.to(device, non_blocking=non_blocking),
        )
