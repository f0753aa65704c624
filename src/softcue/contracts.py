"""What the rooms say to each other: the frozen model's shape, a bank of prompts, a batch of rows.

Shape legend, used everywhere: B rows, T positions (in a batch) or prompts (in a bank), P virtual
tokens, D hidden size, L layers, H key-value heads, K head size, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Vote = Literal["majority", "mean_likelihood"]
"""How the members of an ensemble agree on a row's class."""

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
    row in every layer. A bank with neither is the empty prompt: plain text. A row wears the prompt
    that its batch says; a bank of one prompt is worn by all.
    """

    embeddings_TPD: Tensor | None = None
    keys_TLHPK: Tensor | None = None
    values_TLHPK: Tensor | None = None
    lengths_T: Tensor | None = None
    """How many of the P virtual tokens each prompt has, the first ones; None: all."""
    vote: Vote | None = None
    """If given, every row is judged by all T prompts, which then agree this way."""

    def __post_init__(self) -> None:
        assert (self.keys_TLHPK is None) == (self.values_TLHPK is None)
        assert self.embeddings_TPD is None or self.keys_TLHPK is None
        assert self.lengths_T is None or int(self.lengths_T.max()) == self._width

    @property
    def num_prompts(self) -> int:
        """T; the empty prompt counts as one."""
        return len(next(iter(self.tensors().values()), [None]))

    @property
    def num_virtual_tokens(self) -> tuple[int, ...]:
        """How many virtual tokens each prompt has."""
        if self.lengths_T is not None:
            return tuple(self.lengths_T.tolist())
        return (self._width,) * self.num_prompts

    @property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Positions that each prompt's keys and values take in front of a row: 0 for embeddings."""
        return (0,) * self.num_prompts if self.keys_TLHPK is None else self.num_virtual_tokens

    @classmethod
    def joined(cls, banks: Sequence[PromptBank], *, vote: Vote | None = None) -> PromptBank:
        """The prompts of several banks of one form, one after another, whatever their lengths."""
        lengths = [length for bank in banks for length in bank.num_virtual_tokens]
        uneven = len(set(lengths)) > 1
        return cls(
            embeddings_TPD=_stacked([bank.embeddings_TPD for bank in banks], places=1),
            keys_TLHPK=_stacked([bank.keys_TLHPK for bank in banks], places=3),
            values_TLHPK=_stacked([bank.values_TLHPK for bank in banks], places=3),
            lengths_T=torch.tensor(lengths) if uneven else None,
            vote=vote,
        )

    def member(self, prompt: int) -> PromptBank:
        """One of the prompts as a bank of its own."""
        length, own = self.num_virtual_tokens[prompt], slice(prompt, prompt + 1)
        return PromptBank(
            embeddings_TPD=None if self.embeddings_TPD is None else self.embeddings_TPD[own, :length],
            keys_TLHPK=None if self.keys_TLHPK is None else self.keys_TLHPK[own, :, :, :length],
            values_TLHPK=None if self.values_TLHPK is None else self.values_TLHPK[own, :, :, :length],
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors this bank holds, by field name."""
        fields = {
            "embeddings_TPD": self.embeddings_TPD,
            "keys_TLHPK": self.keys_TLHPK,
            "values_TLHPK": self.values_TLHPK,
            "lengths_T": self.lengths_T,
        }
        return {name: tensor for name, tensor in fields.items() if tensor is not None}

    def to(self, device: torch.device) -> PromptBank:
        """The same prompts on another device."""
        return self._mapped(lambda tensor: tensor.to(device))

    def detach(self) -> PromptBank:
        """The same prompts, folded: contiguous tensors without a graph behind them."""
        return self._mapped(lambda tensor: tensor.detach().contiguous())

    @property
    def _width(self) -> int:
        width = 0 if self.embeddings_TPD is None else self.embeddings_TPD.shape[1]
        return width if self.keys_TLHPK is None else self.keys_TLHPK.shape[3]

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> PromptBank:
        return replace(
            self,
            embeddings_TPD=None if self.embeddings_TPD is None else change(self.embeddings_TPD),
            keys_TLHPK=None if self.keys_TLHPK is None else change(self.keys_TLHPK),
            values_TLHPK=None if self.values_TLHPK is None else change(self.values_TLHPK),
            lengths_T=None if self.lengths_T is None else change(self.lengths_T),
        )


def _stacked(tensors: Sequence[Tensor | None], *, places: int) -> Tensor | None:
    """Tensors one after another, zeros where a shorter one has no virtual token; `places` is P's axis."""
    present = [tensor for tensor in tensors if tensor is not None]
    assert len(present) in (0, len(tensors)), "embeddings and keys do not stand in one bank"
    if not present:
        return None
    width = max(tensor.shape[places] for tensor in present)
    padding = [(0, 0) * (tensor.dim() - 1 - places) + (0, width - tensor.shape[places]) for tensor in present]
    return torch.cat([pad(tensor, widths) for tensor, widths in zip(present, padding, strict=True)])


class SoftPrompt(nn.Module, ABC):
    """A soft-prompt method: trainable parameters that make a bank of prompts.

    `in_layers` says which form the bank takes: False, embeddings that a layout may place anywhere
    in a row; True, keys and values that only ever stand in front.
    """

    in_layers: bool = False

    @abstractmethod
    def forward(self) -> PromptBank:
        """The prompts as they stand now, with gradients to this module's parameters."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters as an optimizer takes them; a group may bring a learning rate of its own."""
        return [{"params": list(self.parameters())}]

    def factors(self) -> dict[str, Tensor]:
        """What a later run may start from beside the bank; most methods have nothing more."""
        return {}


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

    def of_members(self, count: int) -> Batch:
        """Every row `count` times, once for each of the first `count` prompts: row by row."""
        times = torch.tensor([count] * len(self), device=self.prompt_B.device)
        return Batch(
            ids_BT=self.ids_BT.repeat_interleave(times, dim=0),
            real_BT=self.real_BT.repeat_interleave(times, dim=0),
            choices=tuple(choices for choices in self.choices for _ in range(count)),
            target_B=self.target_B.repeat_interleave(times),
            prompt_B=torch.arange(count, device=self.prompt_B.device).repeat(len(self)),
            row_B=self.row_B.repeat_interleave(times),
        )

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """The rows of several batches, padded on the left to the longest."""
        width = max(batch.ids_BT.shape[1] for batch in batches)
        return cls(
            ids_BT=torch.cat([pad(b.ids_BT, (width - b.ids_BT.shape[1], 0)) for b in batches]),
            real_BT=torch.cat([pad(b.real_BT, (width - b.real_BT.shape[1], 0)) for b in batches]),
            choices=tuple(choices for batch in batches for choices in batch.choices),
            target_B=torch.cat([batch.target_B for batch in batches]),
            prompt_B=torch.cat([batch.prompt_B for batch in batches]),
            row_B=torch.cat([batch.row_B for batch in batches]),
        )

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
