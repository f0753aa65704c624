"""Attention over a stream: rows stand one after another without padding, heads are shared.

Linear layers see one long row that holds every token once, so a pad costs nothing and a shared
beginning costs one row. Only here, inside attention, are the segments laid side by side: a head's
tokens see its prompt's prefix and themselves; a row's tail sees the prefix, its head and itself.
The model calls `attend` through transformers' attention interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from softcue.errors import BackboneError

NAME = "softcue"
"""The name under which transformers knows this attention."""

AttentionHook = Callable[[Tensor, Tensor, Tensor], None]
"""Receives a layer's attention: probabilities [S, heads, T, KEYS], keys and values [S, KEYS, H, K]."""

WITHOUT_EFFECT_HERE = frozenset(
    {
        # Nothing is dropped in eval mode; masks and positions are the plan's.
        *("dropout", "is_causal", "position_ids", "cache_position", "position_embeddings"),
        # Rows are no longer than the window: `BackboneSpec.max_positions` sees to it.
        "sliding_window",
        # What is returned, which the plan does not read.
        *("use_cache", "past_key_values", "output_attentions", "output_hidden_states", "return_dict"),
        *("output_router_logits", "logits_to_keep", "num_items_in_batch", "return_attention_weights"),
    }
)
"""Arguments that families give their attention and that change nothing the plan computes."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """S segments of a stream, padded to T tokens while attention runs (N tokens, KEYS keys each)."""

    pad_ST: Tensor
    """For each place, the token (0…N-1) that stands there; pads point to token 0."""
    place_N: Tensor
    """For each token, its place in the flattened [S * T]."""
    bias: Tensor
    """Added to the scores: -inf where a key is not seen, and the family's own: [S, 1 or KVH, G * T, KEYS].

    The G query heads that share a key head stand one after another.
    """
    prompt_S: Tensor
    head_S: Tensor | None
    """Which segment of the level above comes first; None where no segment has one."""
    sees_static: bool
    """Whether segments have static contexts ahead of them."""

    def pad(self, own_NHK: Tensor) -> Tensor:
        """The tokens of each segment side by side: [S, T, H, K]."""
        if len(self.pad_ST) == 1:
            return own_NHK[None]
        return _padded(own_NHK, self.pad_ST, self.place_N)

    def unpad(self, padded_STHK: Tensor) -> Tensor:
        """The way back: [N, H, K]."""
        if len(self.pad_ST) == 1:
            return padded_STHK[0]
        return _unpadded(padded_STHK.flatten(0, 1), self.pad_ST, self.place_N)


class _Padded(torch.autograd.Function):
    """[N, H, K] to [S, T, H, K]; what reaches a pad backward is nothing, as no real token sees one."""

    @staticmethod
    def forward(ctx: Any, own_NHK: Tensor, pad_ST: Tensor, place_N: Tensor) -> Tensor:
        ctx.place_N = place_N
        padded = own_NHK.index_select(0, pad_ST.flatten())
        return padded.view(*pad_ST.shape, *padded.shape[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].flatten(0, 1).index_select(0, ctx.place_N), None, None


class _Unpadded(torch.autograd.Function):
    """[S * T, H, K] to [N, H, K]; backward, pads get zeros."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, pad_ST: Tensor, place_N: Tensor) -> Tensor:
        ctx.place_N, ctx.num_places = place_N, pad_ST.numel()
        return padded.index_select(0, place_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        padded = gradients[0].new_zeros(ctx.num_places, *gradients[0].shape[1:])
        return padded.index_copy_(0, ctx.place_N, gradients[0]), None, None


# What torch leaves untyped, with its types.
_padded: Callable[[Tensor, Tensor, Tensor], Tensor] = _Padded.apply
_unpadded: Callable[[Tensor, Tensor, Tensor], Tensor] = _Unpadded.apply


@dataclass(frozen=True, kw_only=True)
class AttentionPlan:
    """How the tokens of one stream see each other, the same in every layer.

    The levels' tokens follow each other in the stream.
    """

    levels: tuple[Level, ...]
    prefix_keys_TPHK: tuple[Tensor, ...]
    """By layer; empty without key-value prompts."""
    prefix_values_TPHK: tuple[Tensor, ...]
    static_SPLHW: Tensor | None
    """Keys and values side by side (W = key size + value size) of the tails' static contexts, padded to P."""
    read_M: Tensor
    """Places of the stream whose final states are read."""
    captured: dict[int, tuple[Tensor, Tensor]] | None
    """If given: every layer leaves its keys and values [N, H, K] here, under its number."""
    hook: AttentionHook | None = None
    """If given: called in every layer for every level."""
    layers_run: set[int] = field(default_factory=set)
    """The layers that have called attention."""

    def enter(self, layer: int) -> None:
        """Note that a layer calls attention, which each may once: what it keeps goes by its number."""
        if layer in self.layers_run:
            raise BackboneError(f"layer {layer} calls attention more than once")
        self.layers_run.add(layer)


_active: ContextVar[AttentionPlan] = ContextVar("softcue_attention_plan")


@contextmanager
def use_plan(plan: AttentionPlan) -> Iterator[None]:
    """While this is open, the model's attention follows `plan`."""
    token = _active.set(plan)
    try:
        yield
    finally:
        _active.reset(token)


def output_positions() -> Tensor:
    """Where the final states of the stream that runs are read: [M]."""
    return _active.get().read_M


def recompute_context() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `torch.utils.checkpoint`: a layer is recomputed under the plan that it ran under."""
    return nullcontext(), use_plan(replace(_active.get(), layers_run=set()))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: [1, heads, N, K] in, [1, N, heads, K] out.

    Raises:
        BackboneError: the family gives attention an argument that the plan does not know.
    """
    given = {name for name, value in others.items() if value is not None}
    if unknown := sorted(given - WITHOUT_EFFECT_HERE):
        raise BackboneError(f"its attention takes {', '.join(unknown)}")
    plan, layer = _active.get(), cast(int, module.layer_idx)
    plan.enter(layer)
    query_NHK, key_NHK, value_NHK = (x[0].transpose(0, 1).to(_dtype(value)) for x in (query, key, value))
    if plan.captured is not None:
        plan.captured[layer] = key_NHK.to(value.dtype), value_NHK.to(value.dtype)

    sizes = [len(level.place_N) for level in plan.levels]
    by_level = zip(plan.levels, *(x.split(sizes) for x in (query_NHK, key_NHK, value_NHK)), strict=True)
    outputs: list[Tensor] = []
    above: tuple[Tensor, Tensor] | None = None
    for level, query_nHK, key_nHK, value_nHK in by_level:
        own = level.pad(key_nHK), level.pad(value_nHK)
        blocks = [*_ahead(plan, level, layer, key_size=key.shape[3]), own]
        if level.head_S is not None and above is not None:
            blocks.insert(-1, (_for_segments(above[0], level.head_S), _for_segments(above[1], level.head_S)))
        keys, values = (_joined(block) for block in zip(*blocks, strict=True))
        query = level.pad(query_nHK)
        outputs.append(level.unpad(_attention(query, keys, values, level.bias, scaling)))
        if plan.hook is not None:
            plan.hook(_probabilities(query, keys, level.bias, scaling), keys, values)
        above = own
    return torch.cat(outputs)[None].to(value.dtype), None


def _dtype(value: Tensor) -> torch.dtype:
    """What attention runs in: at least fp32 on a CPU, whose fused kernel is slow and inexact in bfloat16."""
    return torch.promote_types(value.dtype, torch.float32) if value.device.type == "cpu" else value.dtype


def _ahead(plan: AttentionPlan, level: Level, layer: int, *, key_size: int) -> list[tuple[Tensor, Tensor]]:
    """Keys and values that are no tokens of the stream: the prompt's prefix, then static contexts."""
    blocks = []
    if plan.prefix_keys_TPHK:
        both = plan.prefix_keys_TPHK[layer], plan.prefix_values_TPHK[layer]
        blocks.append((_for_segments(both[0], level.prompt_S), _for_segments(both[1], level.prompt_S)))
    if level.sees_static and plan.static_SPLHW is not None:
        both_SPHW = plan.static_SPLHW[:, :, layer]
        blocks.append((both_SPHW[..., :key_size], both_SPHW[..., key_size:]))
    return blocks


def _joined(blocks: Sequence[Tensor]) -> Tensor:
    """Blocks of keys in front of a segment's own, which come last and say the dtype."""
    return torch.cat([block.to(blocks[-1].dtype) for block in blocks], dim=1)


def _for_segments(keys_UPHK: Tensor, which_S: Tensor) -> Tensor:
    """One block of keys for every segment; a single shared block is expanded, not copied."""
    if keys_UPHK.shape[0] == 1:
        return keys_UPHK.expand(which_S.shape[0], -1, -1, -1)
    return keys_UPHK.index_select(0, which_S)


def _attention(
    query_STHK: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float | None
) -> Tensor:
    """Attention in which the G query heads of a key head stand as G * T queries of it: no key is copied."""
    segments, width, num_heads, _ = query_STHK.shape
    query = _by_key_head(query_STHK, keys.shape[2])
    heads = query, keys.transpose(1, 2), values.transpose(1, 2)
    output = scaled_dot_product_attention(*heads, attn_mask=bias.to(query.dtype), scale=scaling)
    value_size = values.shape[3]
    by_group = output.view(segments, keys.shape[2], -1, width, value_size)
    return by_group.permute(0, 3, 1, 2, 4).reshape(segments, width, num_heads, value_size)


def _probabilities(query_STHK: Tensor, keys: Tensor, bias: Tensor, scaling: float | None) -> Tensor:
    """What the fused kernel never writes down, by the plain formula: [S, heads, T, KEYS]."""
    segments, width, num_heads, head_size = query_STHK.shape
    scale = head_size**-0.5 if scaling is None else scaling
    scores = _by_key_head(query_STHK, keys.shape[2]) @ keys.permute(0, 2, 3, 1) * scale + bias
    return scores.softmax(dim=-1).view(segments, num_heads, width, -1)


def _by_key_head(query_STHK: Tensor, num_key_heads: int) -> Tensor:
    """Queries under the key head they share: [S, KVH, G * T, K]."""
    segments, width, num_heads, head_size = query_STHK.shape
    grouped = segments, width, num_key_heads, num_heads // num_key_heads, head_size
    return query_STHK.reshape(grouped).permute(0, 2, 3, 1, 4).flatten(2, 3)
