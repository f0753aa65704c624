"""Attention of an encoder-decoder, with keys and values in front at any of its three sites.

Letters: R rows that run together, Q queries, KEYS keys. A layer is one attention of one block: the layers of
the encoder's self-attention come first, then those of the decoder's, then those of cross-attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from softcue.backbone.attention import AttentionHook, KeysAndValues
from softcue.contracts import PromptBank

NAME = "softcue_sites"
"""The name of this attention in transformers' registry."""

MASKED = -1e9


@dataclass(frozen=True, kw_only=True)
class Site:
    """One of the places where an encoder-decoder attends, in all its layers."""

    modules: tuple[nn.Module, ...]
    relative: nn.Module | None
    """The module that gives T5's bias of relative positions, if this site has one."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Keys and values of R rows, shorter ones after columns that no query sees."""

    keys_RLHPK: Tensor
    values_RLHPK: Tensor
    bias_RP: Tensor
    place_of: Mapping[int, int]
    """Where each layer that has a prefix is among the L of the bank."""

    @classmethod
    def of(cls, bank: PromptBank, prompt_R: Tensor, *, layers: Sequence[int]) -> Prefix | None:
        """Those of a bank's prompts for these layers; None if it has no keys and values."""
        if bank.keys_TLHPK is None or bank.values_TLHPK is None:
            return None
        width = bank.keys_TLHPK.shape[3]
        length_T = torch.tensor(bank.num_virtual_tokens, device=bank.keys_TLHPK.device)
        # Row by row, the last token is in the last column, next to the row.
        column_TP = torch.arange(width, device=length_T.device) - (width - length_T)[:, None]
        index_T1 = torch.arange(len(length_T), device=length_T.device)[:, None]

        def moved(from_TLHPK: Tensor) -> Tensor:
            by_token_TPLHK = from_TLHPK.movedim(3, 1)[index_T1, column_TP.clamp(min=0)]
            return by_token_TPLHK.movedim(1, 3)[prompt_R]

        return cls(
            keys_RLHPK=moved(bank.keys_TLHPK),
            values_RLHPK=moved(bank.values_TLHPK),
            bias_RP=((column_TP < 0) * MASKED)[prompt_R],
            place_of={layer: place for place, layer in enumerate(layers)},
        )


@dataclass(frozen=True, kw_only=True)
class Packing:
    """Rows of several lengths, one behind the other in a single row, and the same rows side by side.

    N tokens in all, E positions of the longest row.
    """

    place_RE: Tensor
    """Where each token is in the single row; 0 behind a row's end."""
    mask_RE: Tensor
    """1 for tokens, 0 behind a row's end."""

    @classmethod
    def of(cls, mask_RE: Tensor) -> Packing:
        """The packing of rows padded on the right."""
        return cls(place_RE=(mask_RE.flatten().cumsum(0).view_as(mask_RE) - 1) * mask_RE, mask_RE=mask_RE)

    @property
    def is_token_RE(self) -> Tensor:
        """The mask as booleans."""
        return self.mask_RE.bool()

    def side_by_side(self, packed_1HNK: Tensor) -> Tensor:
        """[1, H, N, K] as [R, H, E, K]."""
        return packed_1HNK[0][:, self.place_RE].transpose(0, 1)

    def in_one_row(self, rows_REHK: Tensor) -> Tensor:
        """[R, E, ...] as [1, N, ...]."""
        return rows_REHK[self.is_token_RE][None]

    def bias(self, dtype: torch.dtype) -> Tensor:
        """Added to the scores of keys, so that no query sees what is behind a row's end: [R, 1, 1, E]."""
        return ((1 - self.mask_RE) * MASKED)[:, None, None].to(dtype)


@dataclass(frozen=True, kw_only=True)
class SitePlan:
    """What the attention of a model does besides its own in one pass."""

    layer_of: Mapping[nn.Module, int] = field(default_factory=dict)
    relative_of: Mapping[nn.Module, nn.Module | None] = field(default_factory=dict)
    prefix: Prefix | None = None
    packing: Packing | None = None
    """If given, the rows of an encoder are one behind the other."""
    captured: dict[int, KeysAndValues] | None = None
    """If given, each layer stores its keys and values [R, H, KEYS, K] here."""
    hook: AttentionHook | None = None
    """If given, it is called in every layer of the encoder's self-attention."""
    hooked: frozenset[int] = frozenset()
    seen: list[tuple[nn.Module, int, int]] | None = None
    """If given, each module that attends is added, with its numbers of queries and keys."""
    biases: dict[tuple[nn.Module, int, int], Tensor] = field(default_factory=dict)
    """Position biases that layers share, by what they depend on."""


_active: ContextVar[SitePlan | None] = ContextVar("softcue_site_plan", default=None)


@contextmanager
def use_site_plan(plan: SitePlan | None) -> Iterator[None]:
    """Let the model's attention follow `plan` inside this context."""
    token = _active.set(plan)
    try:
        yield
    finally:
        _active.reset(token)


def recompute_context() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `torch.utils.checkpoint`: recompute a layer under the plan of its forward pass."""
    return nullcontext(), use_site_plan(_active.get())


def lazy_bias(module: nn.Module, *arguments: object, **named: object) -> Tensor:
    """T5's bias of relative positions; of packed rows, which attend row by row, a number in its place."""
    plan = _active.get()
    if plan is not None and plan.packing is not None:
        return torch.zeros(1, 1, 1, 1, device=plan.packing.mask_RE.device)
    bias: Tensor = cast(Any, type(module)).compute_bias(module, *arguments, **named)
    return bias


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: [R, H, Q, K] in, [R, Q, H, K] out."""
    plan = _active.get()
    layer = None if plan is None else plan.layer_of.get(module)
    bias = attention_mask
    if plan is not None and plan.seen is not None:
        plan.seen.append((module, query.shape[2], key.shape[2]))
    if plan is not None and plan.packing is not None:
        query, key, value = (plan.packing.side_by_side(of) for of in (query, key, value))
        bias = plan.packing.bias(query.dtype)
        position_bias = _bias(plan, module, query, key, width=0)
    if plan is not None and layer is not None:
        if plan.captured is not None:
            plan.captured[layer] = key, value
        if plan.prefix is not None and layer in plan.prefix.place_of:
            width = plan.prefix.keys_RLHPK.shape[3]
            if plan.relative_of[module] is not None:
                position_bias = _bias(plan, module, query, key, width=width)
            elif position_bias is not None:
                position_bias = pad(position_bias, (width, 0))
            key, value, bias = _with_prefix(plan.prefix, layer, key, value, bias, num_queries=query.shape[2])
    if position_bias is not None:
        bias = position_bias if bias is None else position_bias + bias
    if bias is not None:
        bias = bias.to(query.dtype)
    if plan is not None and plan.hook is not None and layer in plan.hooked:
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        scores = query @ key.transpose(2, 3) * scale + (0 if bias is None else bias)
        plan.hook(scores.softmax(dim=-1).float(), key.transpose(1, 2).float(), value.transpose(1, 2).float())
    output = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
    rows = output.transpose(1, 2)
    if plan is not None and plan.packing is not None:
        rows = plan.packing.in_one_row(rows)
    return rows.contiguous(), None


def _with_prefix(
    prefix: Prefix, layer: int, key: Tensor, value: Tensor, mask: Tensor | None, *, num_queries: int
) -> tuple[Tensor, Tensor, Tensor]:
    place = prefix.place_of[layer]
    keys_RHPK, values_RHPK = prefix.keys_RLHPK[:, place], prefix.values_RLHPK[:, place]
    keys = torch.cat([keys_RHPK.to(key.dtype), key], dim=2)
    values = torch.cat([values_RHPK.to(value.dtype), value], dim=2)
    if mask is None:
        mask = key.new_zeros(len(key), 1, num_queries, key.shape[2])
    ahead = prefix.bias_RP[:, None, None].to(mask.dtype).expand(-1, 1, num_queries, -1)
    return keys, values, torch.cat([ahead, mask.expand(len(key), 1, num_queries, -1)], dim=3)


def _bias(plan: SitePlan, module: nn.Module, query: Tensor, key: Tensor, *, width: int) -> Tensor:
    """The bias of a prefix of `width` and the row: the prefix's tokens stand before the row's first."""
    relative = plan.relative_of[module]
    assert relative is not None, "this module has no bias of relative positions"
    queries, keys = query.shape[2], key.shape[2]
    place = relative, queries, keys + width
    if place not in plan.biases:
        plan.biases[place] = cast(Any, type(relative)).compute_bias(
            relative, queries, keys + width, device=query.device, past_seen_tokens=keys - queries + width
        )
    return plan.biases[place]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
