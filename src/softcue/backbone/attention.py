"""Attention over a stream, whose rows follow each other without padding and share their common prefix.

Linear layers see one long row in which every token occurs once. Only inside attention are segments
side by side: the tokens of a shared segment see its prompt's keys and values and themselves; those of a
tail see the prompt's keys and values, the tail's static context or shared segment, and themselves. The
model calls `attend` through transformers' attention interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from softcue.backbone.segments import SegmentGroup
from softcue.errors import BackboneError

NAME = "softcue"
"""The name of this attention in transformers' registry."""

AttentionHook = Callable[[Tensor, Tensor, Tensor], None]
"""Receives a layer's attention: probabilities [S, heads, T, KEYS], keys and values [S, KEYS, H, K]."""

KeysAndValues = tuple[Tensor, Tensor]

IGNORED_ARGUMENTS = frozenset(
    {
        # Nothing is dropped in eval mode; masks and positions come from the plan.
        *("dropout", "is_causal", "position_ids", "cache_position", "position_embeddings"),
        # Rows are no longer than the window: `BackboneSpec.max_positions` ensures it.
        "sliding_window",
        # Settings of the model's output, which the plan does not read.
        *("use_cache", "past_key_values", "output_attentions", "output_hidden_states", "return_dict"),
        *("output_router_logits", "logits_to_keep", "num_items_in_batch", "return_attention_weights"),
    }
)
"""Arguments that families pass to their attention and that do not change its result under a plan."""


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What the tokens of one pass see, the same in every layer."""

    output_M: Tensor
    """Indices of the tokens whose final states are returned."""
    layers_run: set[int] = field(default_factory=set)
    """The layers that have called attention."""

    def enter(self, layer: int) -> None:
        """Record that a layer calls attention; each may do so once, as keys are kept by its number."""
        if layer in self.layers_run:
            raise BackboneError(f"layer {layer} calls attention more than once")
        self.layers_run.add(layer)

    @abstractmethod
    def attend(
        self, layer: int, query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, scaling: float | None
    ) -> Tensor:
        """The attention of one layer: [N, heads, K], in the dtype of the query."""


@dataclass(frozen=True, kw_only=True)
class AttentionPlan(Plan):
    """How the tokens of one stream see each other."""

    groups: tuple[SegmentGroup, ...]
    """They follow each other in the stream."""
    prefix_keys_TPHK: tuple[Tensor, ...]
    """By layer; empty without key-value prompts."""
    prefix_values_TPHK: tuple[Tensor, ...]
    static_SPLHW: Tensor | None
    """Keys and values of the tails' static contexts, padded to P: W = key size + value size."""
    captured: dict[int, KeysAndValues] | None
    """If given, each layer stores its keys and values [N, H, K] here under its number."""
    hook: AttentionHook | None = None
    """If given, it is called in every layer for every group."""

    def attend(
        self, layer: int, query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, scaling: float | None
    ) -> Tensor:
        if self.captured is not None:
            self.captured[layer] = key_NHK, value_NHK
        sizes = [len(group.cell_N) for group in self.groups]
        by_group = zip(self.groups, *(x.split(sizes) for x in (query_NHK, key_NHK, value_NHK)), strict=True)
        outputs: list[Tensor] = []
        shared: KeysAndValues | None = None
        for group, query_nHK, key_nHK, value_nHK in by_group:
            own = group.pad(key_nHK), group.pad(value_nHK)
            blocks = [*_before(self, group, layer, shared, key_size=key_NHK.shape[2]), own]
            keys, values = (_concat(block) for block in zip(*blocks, strict=True))
            padded_query = group.pad(query_nHK)
            outputs.append(group.unpad(_attention(padded_query, keys, values, group.bias, scaling)))
            if self.hook is not None:
                self.hook(_probabilities(padded_query, keys, group.bias, scaling), keys, values)
            shared = own
        return torch.cat(outputs)


_active: ContextVar[Plan] = ContextVar("softcue_attention_plan")


@contextmanager
def use_plan(plan: Plan) -> Iterator[None]:
    """Let the model's attention follow `plan` inside this context."""
    token = _active.set(plan)
    try:
        yield
    finally:
        _active.reset(token)


def output_positions() -> Tensor:
    """Indices of the tokens whose final states are returned, in the stream that is running: [M]."""
    return _active.get().output_M


def recompute_context() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `torch.utils.checkpoint`: recompute a layer under the plan of its forward pass."""
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
        BackboneError: the family passes attention an argument that the plan does not know.
    """
    given = {name for name, argument in others.items() if argument is not None}
    if unknown := sorted(given - IGNORED_ARGUMENTS):
        raise BackboneError(f"its attention takes {', '.join(unknown)}")
    plan, layer = _active.get(), cast(int, module.layer_idx)
    plan.enter(layer)
    query_NHK, key_NHK, value_NHK = (x[0].transpose(0, 1).to(_dtype(value)) for x in (query, key, value))
    output_NHK = plan.attend(layer, query_NHK, key_NHK, value_NHK, scaling)
    return output_NHK[None].to(value.dtype), None


def _dtype(value: Tensor) -> torch.dtype:
    """The dtype of attention: at least fp32 on a CPU, whose fused bfloat16 kernel is slow and inexact."""
    return torch.promote_types(value.dtype, torch.float32) if value.device.type == "cpu" else value.dtype


def _before(
    plan: AttentionPlan, group: SegmentGroup, layer: int, shared: KeysAndValues | None, *, key_size: int
) -> list[KeysAndValues]:
    """Blocks of keys and values before a group's own: the prompt's, static contexts, shared segments."""
    blocks = []
    if plan.prefix_keys_TPHK:
        both = plan.prefix_keys_TPHK[layer], plan.prefix_values_TPHK[layer]
        blocks.append((_for_segments(both[0], group.prompt_S), _for_segments(both[1], group.prompt_S)))
    if group.has_static and plan.static_SPLHW is not None:
        both_SPHW = plan.static_SPLHW[:, :, layer]
        blocks.append((both_SPHW[..., :key_size], both_SPHW[..., key_size:]))
    if group.shared_S is not None and shared is not None:
        blocks.append((_for_segments(shared[0], group.shared_S), _for_segments(shared[1], group.shared_S)))
    return blocks


def _concat(blocks: Sequence[Tensor]) -> Tensor:
    """Join blocks of keys, in the dtype of the last, which are the segments' own."""
    return torch.cat([block.to(blocks[-1].dtype) for block in blocks], dim=1)


def _for_segments(keys_UPHK: Tensor, index_S: Tensor) -> Tensor:
    """One of U blocks of keys for each segment; if there is only one, it is expanded, not copied."""
    if keys_UPHK.shape[0] == 1:
        return keys_UPHK.expand(index_S.shape[0], -1, -1, -1)
    return keys_UPHK.index_select(0, index_S)


def _attention(
    query_STHK: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float | None
) -> Tensor:
    """Attention in which G query heads are G * T queries of their key head, so that no key is copied."""
    segments, width, num_heads, _ = query_STHK.shape
    query = _by_key_head(query_STHK, keys.shape[2])
    heads = query, keys.transpose(1, 2), values.transpose(1, 2)
    output = scaled_dot_product_attention(*heads, attn_mask=bias.to(query.dtype), scale=scaling)
    value_size = values.shape[3]
    by_key_head = output.view(segments, keys.shape[2], -1, width, value_size)
    return by_key_head.permute(0, 3, 1, 2, 4).reshape(segments, width, num_heads, value_size)


def _probabilities(query_STHK: Tensor, keys: Tensor, bias: Tensor, scaling: float | None) -> Tensor:
    """Attention probabilities, which the fused kernel does not return: [S, heads, T, KEYS]."""
    segments, width, num_heads, head_size = query_STHK.shape
    scale = head_size**-0.5 if scaling is None else scaling
    scores = _by_key_head(query_STHK, keys.shape[2]) @ keys.permute(0, 2, 3, 1) * scale + bias
    return scores.softmax(dim=-1).view(segments, num_heads, width, -1)


def _by_key_head(query_STHK: Tensor, num_key_heads: int) -> Tensor:
    """Queries under the key head they share: [S, KVH, G * T, K]."""
    segments, width, num_heads, head_size = query_STHK.shape
    grouped = segments, width, num_key_heads, num_heads // num_key_heads, head_size
    return query_STHK.reshape(grouped).permute(0, 2, 3, 1, 4).flatten(2, 3)
