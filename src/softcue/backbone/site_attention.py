"""Attention of an encoder-decoder, with keys and values in front at any of its three sites.

Letters: R rows that run together, Q queries, KEYS keys. A layer is one attention of one block: the layers of
the encoder's self-attention come first, then those of the decoder's, then those of cross-attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field

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
class SitePlan:
    """What the attention of a model does besides its own in one pass."""

    layer_of: Mapping[nn.Module, int] = field(default_factory=dict)
    relative_of: Mapping[nn.Module, nn.Module | None] = field(default_factory=dict)
    prefix: Prefix | None = None
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
    if plan is not None and layer is not None:
        if plan.captured is not None:
            plan.captured[layer] = key, value
        if plan.prefix is not None and layer in plan.prefix.place_of:
            position_bias = _bias_with_prefix(plan, module, query, key, position_bias)
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
    return output.transpose(1, 2).contiguous(), None


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
    return keys, values, torch.cat([ahead, mask.expand(len(key), 1, -1, -1)], dim=3)


def _bias_with_prefix(
    plan: SitePlan, module: nn.Module, query: Tensor, key: Tensor, position_bias: Tensor | None
) -> Tensor | None:
    """The bias of prefix and row: the prefix's tokens have the positions before the row's first."""
    assert plan.prefix is not None
    width, queries, keys = plan.prefix.keys_RLHPK.shape[3], query.shape[2], key.shape[2]
    relative = plan.relative_of[module]
    if relative is None:
        return None if position_bias is None else pad(position_bias, (width, 0))
    place = relative, queries, keys
    if place not in plan.biases:
        compute = relative.compute_bias
        plan.biases[place] = compute(  # type: ignore[operator]
            queries, keys + width, device=query.device, past_seen_tokens=keys - queries + width
        )
    return plan.biases[place]


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
