"""Segments of a stream side by side: padding, masks and position biases for attention.

S segments of at most T tokens; N tokens of all segments; KEYS keys that a segment's tokens can see; G
query heads for each of the H key heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softcue.backbone.scoring import Trie
from softcue.contracts import Ids


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """The attention settings that all rows of a batch share."""

    prefix_lengths: tuple[int, ...]
    """How many keys and values each prompt puts in front of a row."""
    alibi_slopes_H: Tensor | None
    """The slope of each head's linear bias, in families that have one."""
    queries_per_key: int
    """G: query heads that share one key head."""
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive tokens of one row, or of several rows that share them, and a trie of label tokens after."""

    ids: Ids
    first_position: int
    prompt: int
    num_static: int = 0
    """Tokens of the static context before this segment."""
    shared: int | None = None
    """Which of the shared segments comes before this one."""
    trie: Trie | None = None

    @property
    def all_ids(self) -> Ids:
        """The segment's tokens, then those of its trie's nodes."""
        return self.ids + (self.trie.tokens if self.trie else ())

    @property
    def positions(self) -> list[int]:
        """Positions of `all_ids` in the row; a trie's node has the position of its depth."""
        end = self.first_position + len(self.ids)
        nodes = [end + depth for depth in self.trie.depths] if self.trie else []
        return [*range(self.first_position, end), *nodes]


@dataclass(frozen=True, kw_only=True)
class SegmentGroup:
    """Segments that attention runs side by side, each padded to T tokens."""

    token_ST: Tensor
    """The token (0…N-1) in each padded cell; padding repeats token 0."""
    cell_N: Tensor
    """The cell of each token in the flattened [S * T]."""
    bias: Tensor
    """Added to the scores: -inf for keys that are not seen, and the family's own: [S, 1 or H, G * T, KEYS].

    The G query heads of a key head follow each other.
    """
    prompt_S: Tensor
    shared_S: Tensor | None
    """The shared segment before each; None if no segment has one."""
    has_static: bool
    """Whether segments have static contexts before them."""

    def pad(self, own_NHK: Tensor) -> Tensor:
        """The tokens of each segment side by side: [S, T, H, K]."""
        if len(self.token_ST) == 1:
            return own_NHK[None]
        return _pad(own_NHK, self.token_ST, self.cell_N)

    def unpad(self, padded_STHK: Tensor) -> Tensor:
        """The inverse of `pad`: [N, H, K]."""
        if len(self.token_ST) == 1:
            return padded_STHK[0]
        return _unpad(padded_STHK.flatten(0, 1), self.token_ST, self.cell_N)


def group_segments(
    segments: Sequence[Segment], shared: Sequence[Segment], settings: AttentionSettings
) -> SegmentGroup:
    """The group of some segments, each maybe after one of the `shared` segments."""
    lengths_S = torch.tensor([len(segment.all_ids) for segment in segments])
    width = int(lengths_S.max())
    real_ST = torch.arange(width) < lengths_S[:, None]
    firsts_S = lengths_S.cumsum(0) - lengths_S
    shared_lengths_S = torch.tensor([0 if s.shared is None else len(shared[s.shared].ids) for s in segments])
    prefix_lengths_S = torch.tensor([settings.prefix_lengths[segment.prompt] for segment in segments])
    static_lengths_S = torch.tensor([segment.num_static for segment in segments])
    # Blocks of keys in the order in which attention joins them: prompt, static context, shared, own.
    blocks = [
        # A bank holds the keys of all prompts at the width of the longest prompt.
        _keys_before(prefix_lengths_S, torch.zeros_like(lengths_S), width, max(settings.prefix_lengths)),
        _keys_before(static_lengths_S, prefix_lengths_S, width, int(static_lengths_S.max())),
        _keys_before(shared_lengths_S, prefix_lengths_S, width, int(shared_lengths_S.max())),
        _own_keys(segments, real_ST),
    ]
    sees_STK = torch.cat([sees for sees, _ in blocks], dim=2)
    positions_SK = torch.cat([positions for _, positions in blocks], dim=1)
    # Padding sees every key, which keeps its softmax finite; its output is dropped.
    sees_STK |= ~real_ST[:, :, None]
    shared_S = torch.tensor([segment.shared or 0 for segment in segments], device=settings.device)
    return SegmentGroup(
        token_ST=(firsts_S[:, None] + torch.arange(width)).masked_fill(~real_ST, 0).to(settings.device),
        cell_N=real_ST.flatten().nonzero().squeeze(1).to(settings.device),
        bias=_bias(sees_STK, positions_SK, settings).to(settings.device),
        prompt_S=torch.tensor([segment.prompt for segment in segments], device=settings.device),
        shared_S=shared_S if shared_lengths_S.any() else None,
        has_static=bool(static_lengths_S.any()),
    )


def _keys_before(
    lengths_S: Tensor, first_position_S: Tensor, num_queries: int, width: int
) -> tuple[Tensor, Tensor]:
    """A block of keys that all tokens of a segment see: visibility [S, T, keys], positions [S, keys]."""
    sees_SK = torch.arange(width) < lengths_S[:, None]
    positions_SK = first_position_S[:, None] + torch.arange(width)
    return sees_SK[:, None, :].expand(-1, num_queries, -1), positions_SK


def _own_keys(segments: Sequence[Segment], real_ST: Tensor) -> tuple[Tensor, Tensor]:
    """The segments' own keys: causal; a trie's node sees the segment and its own ancestors."""
    width = real_ST.shape[1]
    sees_STT = torch.ones(width, width).tril().bool() & real_ST[:, None, :]
    positions_ST = torch.zeros(len(segments), width, dtype=torch.long)
    for index, segment in enumerate(segments):
        positions_ST[index, : len(segment.all_ids)] = torch.tensor(segment.positions)
        if segment.trie and segment.trie.branches:
            nodes = slice(len(segment.ids), len(segment.all_ids))
            sees_STT[index, nodes, nodes] = segment.trie.ancestors
    return sees_STT, positions_ST


def _bias(sees_STK: Tensor, positions_SK: Tensor, settings: AttentionSettings) -> Tensor:
    """The bias of a group, the query heads of a key head one after another: [S, 1 or H, G * T, keys]."""
    bias = torch.zeros(sees_STK.shape)[:, None]
    if settings.alibi_slopes_H is not None:
        # ALiBi (Press et al. 2022), counted from the segment's last key: a constant for all keys of a query
        # does not change its softmax, and small numbers keep their precision in bfloat16.
        distance_SK = positions_SK - positions_SK.amax(dim=1, keepdim=True)
        bias = bias + settings.alibi_slopes_H[:, None, None] * distance_SK[:, None, None, :]
    bias = bias.masked_fill(~sees_STK[:, None], float("-inf"))
    if settings.alibi_slopes_H is None:
        return bias.repeat(1, 1, settings.queries_per_key, 1)
    width, num_keys = bias.shape[2:]
    return bias.view(len(bias), -1, settings.queries_per_key * width, num_keys)


class _Pad(torch.autograd.Function):
    """[N, H, K] to [S, T, H, K]; padding passes no gradient back."""

    @staticmethod
    def forward(ctx: Any, own_NHK: Tensor, token_ST: Tensor, cell_N: Tensor) -> Tensor:
        ctx.cell_N = cell_N
        padded = own_NHK.index_select(0, token_ST.flatten())
        return padded.view(*token_ST.shape, *padded.shape[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0].flatten(0, 1).index_select(0, ctx.cell_N), None, None


class _Unpad(torch.autograd.Function):
    """[S * T, H, K] to [N, H, K]; padding receives no gradient."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, token_ST: Tensor, cell_N: Tensor) -> Tensor:
        ctx.cell_N, ctx.num_cells = cell_N, token_ST.numel()
        return padded.index_select(0, cell_N)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        padded = gradients[0].new_zeros(ctx.num_cells, *gradients[0].shape[1:])
        return padded.index_copy_(0, ctx.cell_N, gradients[0]), None, None


# torch does not type `apply`.
_pad: Callable[[Tensor, Tensor, Tensor], Tensor] = _Pad.apply
_unpad: Callable[[Tensor, Tensor, Tensor], Tensor] = _Unpad.apply
