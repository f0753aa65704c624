"""Rows into a stream: what must be computed, once each, and who sees whom.

A row is cut into at most three pieces. Static context: leading words that nothing trainable
precedes; their keys and values are held from one step to the next. Shared head: leading ids that
all rows of one prompt have in common; run once for all of them. Tail: the rest, followed by the
nodes of its labels' trie. No piece is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from softcue.backbone.attention import Level
from softcue.backbone.scoring import Trie


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What the attention of all rows of a batch has in common."""

    prefix_lengths: tuple[int, ...]
    """Keys and values that each prompt puts in front of a row."""
    alibi_slopes_H: Tensor | None
    """The slope of each head's linear bias, in families that have one."""
    num_groups: int
    """Query heads that share a key head."""
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row to run: its ids, the prompt it uses, what may follow it, and how it begins.

    Of the row's ids the first `num_static` are not run: their keys and values are at hand.
    """

    ids: tuple[int, ...]
    prompt: int
    trie: Trie
    num_static: int

    @property
    def static_ids(self) -> tuple[int, ...]:
        """The leading words whose keys and values are at hand."""
        return self.ids[: self.num_static]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Tokens that follow each other in the stream, and the trie that hangs from the last of them."""

    ids: tuple[int, ...]
    first_position: int
    prompt: int
    num_static: int
    head: int | None
    trie: Trie | None

    @property
    def all_ids(self) -> tuple[int, ...]:
        return self.ids + (self.trie.tokens if self.trie else ())

    @property
    def positions(self) -> list[int]:
        """Tokens are counted from the row's start; a trie's node, by its depth."""
        end = self.first_position + len(self.ids)
        nodes = [end + depth for depth in self.trie.depths] if self.trie else []
        return [*range(self.first_position, end), *nodes]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """N tokens to run, and where each row's label predictions stand among them."""

    ids_N: Tensor
    virtual_I: Tensor
    """Places of virtual tokens."""
    positions_N: Tensor
    prompt_N: Tensor
    levels: tuple[Level, ...]
    row_spans: tuple[tuple[slice, slice], ...]
    """For each row, where its head (maybe nothing) and its tail stand."""
    predicting_M: Tensor
    """Places that predict label tokens: by row, the context's end, then the trie's nodes."""


def lay_out(rows: Sequence[RowPlan], settings: AttentionSettings) -> Stream:
    """Plan a batch: which tokens run, where they stand, who sees whom."""
    heads, tails = split_heads(rows, settings.prefix_lengths)
    segments = heads + tails
    spans = _spans(segments)
    levels = [_level(level, heads, settings) for level in (heads, tails) if level]
    tail_spans = spans[len(heads) :]
    predicting = [
        place
        for span, tail in zip(tail_spans, tails, strict=True)
        for place in range(span.start + len(tail.ids) - 1, span.stop)
    ]
    device = settings.device
    ids = [id_ for segment in segments for id_ in segment.all_ids]
    return Stream(
        ids_N=torch.tensor(ids, device=device),
        virtual_I=torch.tensor(
            [at for at, id_ in enumerate(ids) if id_ < 0], device=device, dtype=torch.long
        ),
        positions_N=torch.tensor([p for s in segments for p in s.positions], device=device),
        prompt_N=torch.tensor([s.prompt for s in segments for _ in s.all_ids], device=device),
        levels=tuple(levels),
        row_spans=tuple(
            (slice(0) if tail.head is None else spans[tail.head], span)
            for span, tail in zip(tail_spans, tails, strict=True)
        ),
        predicting_M=torch.tensor(predicting, device=device),
    )


def split_heads(
    rows: Sequence[RowPlan], prefix_lengths: Sequence[int]
) -> tuple[list[Segment], list[Segment]]:
    """Rows into shared heads and tails; a tail keeps at least one token of its row."""
    heads: list[Segment] = []
    head_of: dict[int, int] = {}
    for prompt in dict.fromkeys(row.prompt for row in rows):
        shared = common_prefix([row.ids for row in rows if row.prompt == prompt and not row.num_static])
        if shared:
            head_of[prompt] = len(heads)
            heads.append(_segment(shared, prefix_lengths[prompt], prompt=prompt))
    tails = []
    for row in rows:
        head = None if row.num_static else head_of.get(row.prompt)
        cut = row.num_static if head is None else len(heads[head].ids)
        tails.append(
            _segment(
                row.ids[cut:],
                prefix_lengths[row.prompt] + cut,
                prompt=row.prompt,
                num_static=row.num_static,
                head=head,
                trie=row.trie,
            )
        )
    return heads, tails


def common_prefix(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The leading ids all rows share, short of the last id of the shortest; none for a single row."""
    if len(rows) < 2:
        return ()
    limit = min(len(row) for row in rows) - 1
    columns = zip(*(row[:limit] for row in rows), strict=True)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def _segment(
    ids: tuple[int, ...],
    first_position: int,
    *,
    prompt: int,
    num_static: int = 0,
    head: int | None = None,
    trie: Trie | None = None,
) -> Segment:
    return Segment(
        ids=ids, first_position=first_position, prompt=prompt, num_static=num_static, head=head, trie=trie
    )


def _spans(segments: Sequence[Segment]) -> list[slice]:
    spans, first = [], 0
    for segment in segments:
        spans.append(slice(first, first + len(segment.all_ids)))
        first += len(segment.all_ids)
    return spans


def _level(segments: list[Segment], heads: list[Segment], around: AttentionSettings) -> Level:
    lengths_S = torch.tensor([len(segment.all_ids) for segment in segments])
    width = int(lengths_S.max())
    real_ST = torch.arange(width) < lengths_S[:, None]
    firsts_S = lengths_S.cumsum(0) - lengths_S
    head_lengths_S = torch.tensor([0 if s.head is None else len(heads[s.head].ids) for s in segments])
    prefix_lengths_S = torch.tensor([around.prefix_lengths[segment.prompt] for segment in segments])
    static_lengths_S = torch.tensor([segment.num_static for segment in segments])
    # The blocks of keys in the order in which attention joins them: prefix, static context, head, own.
    blocks = [
        # A bank holds every prompt's keys side by side, the longest prompt's width.
        _keys_ahead(prefix_lengths_S, torch.zeros_like(lengths_S), width, of=max(around.prefix_lengths)),
        _keys_ahead(static_lengths_S, prefix_lengths_S, width),
        _keys_ahead(head_lengths_S, prefix_lengths_S, width),
        _own_keys(segments, real_ST),
    ]
    sees_STK = torch.cat([sees for sees, _ in blocks], dim=2)
    positions_SK = torch.cat([positions for _, positions in blocks], dim=1)
    # A pad's own output is dropped; letting it see everything keeps its softmax finite.
    sees_STK |= ~real_ST[:, :, None]
    return Level(
        pad_ST=(firsts_S[:, None] + torch.arange(width)).masked_fill(~real_ST, 0).to(around.device),
        place_N=real_ST.flatten().nonzero().squeeze(1).to(around.device),
        bias=_bias(sees_STK, positions_SK, around).to(around.device),
        prompt_S=torch.tensor([segment.prompt for segment in segments], device=around.device),
        head_S=torch.tensor([s.head or 0 for s in segments], device=around.device)
        if head_lengths_S.any()
        else None,
        sees_static=any(segment.num_static for segment in segments),
    )


def _keys_ahead(
    lengths_S: Tensor, first_position_S: Tensor, num_queries: int, *, of: int | None = None
) -> tuple[Tensor, Tensor]:
    """A block of keys that all of a segment's tokens see: who sees [S, T, keys], positions [S, keys]."""
    width = int(lengths_S.max()) if of is None else of
    sees_SK = torch.arange(width) < lengths_S[:, None]
    positions_SK = first_position_S[:, None] + torch.arange(width)
    return sees_SK[:, None, :].expand(-1, num_queries, -1), positions_SK


def _own_keys(segments: list[Segment], real_ST: Tensor) -> tuple[Tensor, Tensor]:
    """Within a segment: causal; a trie's node sees the context and its ancestors."""
    width = real_ST.shape[1]
    sees_STT = torch.ones(width, width).tril().bool() & real_ST[:, None, :]
    positions_ST = torch.zeros(len(segments), width, dtype=torch.long)
    for index, segment in enumerate(segments):
        positions_ST[index, : len(segment.all_ids)] = torch.tensor(segment.positions)
        if segment.trie and segment.trie.branches:
            nodes = slice(len(segment.ids), len(segment.all_ids))
            sees_STT[index, nodes, nodes] = segment.trie.ancestors()
    return sees_STT, positions_ST


def _bias(sees_STK: Tensor, positions_SK: Tensor, around: AttentionSettings) -> Tensor:
    """What is added to the attention scores, head beside head of a group: [S, 1 or KVH, G * T, keys]."""
    bias = torch.zeros(sees_STK.shape)[:, None]
    if around.alibi_slopes_H is not None:
        # ALiBi (Press et al. 2022) counts from the segment's last key: softmax ignores what a query's
        # keys share, and small numbers survive bfloat16.
        distance_SK = positions_SK - positions_SK.amax(dim=1, keepdim=True)
        bias = bias + around.alibi_slopes_H[:, None, None] * distance_SK[:, None, None, :]
    bias = bias.masked_fill(~sees_STK[:, None], float("-inf"))
    if around.alibi_slopes_H is None:
        return bias.repeat(1, 1, around.num_groups, 1)
    width, num_keys = bias.shape[2:]
    return bias.view(len(bias), -1, around.num_groups * width, num_keys)
