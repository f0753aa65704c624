"""Rows into a stream: what must be computed, once each, and who sees whom.

Shared head: the leading ids that all rows of one prompt have in common. Tail: the rest of a row,
followed by the nodes of its labels' trie. Neither is padded.
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
class Segment:
    """Tokens that follow each other, and the trie that hangs from the last of them."""

    ids: tuple[int, ...]
    first_position: int
    prompt: int
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
    positions_N: Tensor
    prompt_N: Tensor
    levels: tuple[Level, ...]
    predicting_M: Tensor
    """Stream positions that predict label tokens: by row, the context's end, then the trie's nodes."""


def split_heads(
    rows: Sequence[tuple[int, ...]], prompts: Sequence[int], tries: Sequence[Trie], first_position: int
) -> tuple[list[Segment], list[Segment]]:
    """Rows into shared heads and tails; a tail keeps at least one token of its row."""
    heads: list[Segment] = []
    head_of: dict[int, int] = {}
    for prompt in dict.fromkeys(prompts):
        wearing = [row for row, worn in zip(rows, prompts, strict=True) if worn == prompt]
        shared = common_beginning(wearing)
        if shared:
            head_of[prompt] = len(heads)
            heads.append(
                Segment(ids=shared, first_position=first_position, prompt=prompt, head=None, trie=None)
            )
    tails = []
    for row, prompt, trie in zip(rows, prompts, tries, strict=True):
        head = head_of.get(prompt)
        cut = len(heads[head].ids) if head is not None else 0
        tails.append(
            Segment(ids=row[cut:], first_position=first_position + cut, prompt=prompt, head=head, trie=trie)
        )
    return heads, tails


def common_beginning(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The leading ids all rows share, short of the last id of the shortest row; none for one row."""
    if len(rows) == 1:
        return ()
    limit = min(len(row) for row in rows) - 1
    columns = zip(*(row[:limit] for row in rows), strict=True)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def lay_out(
    rows: Sequence[tuple[int, ...]],
    prompts: Sequence[int],
    tries: Sequence[Trie],
    *,
    num_prefix_positions: int,
    alibi_slopes_H: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Stream:
    """Plan a batch: which tokens run, where they stand, who sees whom."""
    heads, tails = split_heads(rows, prompts, tries, num_prefix_positions)
    segments = heads + tails
    levels, first = [], 0
    for level in (heads, tails):
        if level:
            size = sum(len(segment.all_ids) for segment in level)
            levels.append(
                _level(
                    level,
                    heads,
                    slice(first, first + size),
                    num_prefix_positions,
                    alibi_slopes_H,
                    device,
                    dtype,
                )
            )
            first += size
    starts = torch.tensor([0, *(len(segment.all_ids) for segment in segments)]).cumsum(0).tolist()
    predicting = [
        place
        for start, segment in zip(starts[len(heads) : -1], tails, strict=True)
        for place in range(start + len(segment.ids) - 1, start + len(segment.all_ids))
    ]
    return Stream(
        ids_N=torch.tensor([i for s in segments for i in s.all_ids], device=device),
        positions_N=torch.tensor([p for s in segments for p in s.positions], device=device),
        prompt_N=torch.tensor([s.prompt for s in segments for _ in s.all_ids], device=device),
        levels=tuple(levels),
        predicting_M=torch.tensor(predicting, device=device),
    )


def _level(
    segments: list[Segment],
    heads: list[Segment],
    span: slice,
    num_prefix_positions: int,
    alibi_slopes_H: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Level:
    lengths_S = torch.tensor([len(segment.all_ids) for segment in segments])
    width = int(lengths_S.max())
    real_ST = torch.arange(width) < lengths_S[:, None]
    firsts_S = lengths_S.cumsum(0) - lengths_S
    pad_ST = (firsts_S[:, None] + torch.arange(width)).masked_fill(~real_ST, 0)
    has_heads = segments[0].head is not None or any(segment.head is not None for segment in segments)
    sees, key_positions = _own_keys(segments, real_ST)
    if has_heads:
        sees, key_positions = _with_heads(sees, key_positions, segments, heads)
    if num_prefix_positions:
        everyone = torch.ones(len(segments), width, num_prefix_positions, dtype=torch.bool)
        sees = torch.cat([everyone, sees], dim=2)
        ahead = torch.arange(num_prefix_positions).expand(len(segments), -1)
        key_positions = torch.cat([ahead, key_positions], dim=1)
    # A pad's own output is dropped; letting it see everything keeps its softmax finite.
    sees |= ~real_ST[:, :, None]
    return Level(
        span=span,
        pad_ST=pad_ST.to(device),
        place_N=real_ST.flatten().nonzero().squeeze(1).to(device),
        bias=_bias(sees, key_positions, alibi_slopes_H, dtype).to(device),
        prompt_S=torch.tensor([segment.prompt for segment in segments], device=device),
        head_S=torch.tensor([segment.head or 0 for segment in segments], device=device)
        if has_heads
        else None,
    )


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


def _with_heads(
    sees_STT: Tensor, positions_ST: Tensor, segments: list[Segment], heads: list[Segment]
) -> tuple[Tensor, Tensor]:
    """A tail sees all of its head."""
    width = max(len(head.ids) for head in heads)
    lengths_S = torch.tensor([len(heads[s.head].ids) if s.head is not None else 0 for s in segments])
    sees_SH = torch.arange(width) < lengths_S[:, None]
    sees = torch.cat([sees_SH[:, None, :].expand(-1, sees_STT.shape[1], -1), sees_STT], dim=2)
    positions_SH = heads[0].first_position + torch.arange(width).expand(len(segments), -1)
    return sees, torch.cat([positions_SH, positions_ST], dim=1)


def _bias(sees: Tensor, key_positions: Tensor, alibi_slopes_H: Tensor | None, dtype: torch.dtype) -> Tensor:
    """What is added to the attention scores: [S, 1 or heads, T, KEYS]."""
    bias = torch.zeros(sees.shape)[:, None]
    if alibi_slopes_H is not None:
        # ALiBi (Press et al. 2022) counts from the segment's last key: softmax ignores what a query's
        # keys share, and small numbers survive bfloat16.
        distance_SK = key_positions - key_positions.amax(dim=1, keepdim=True)
        bias = bias + alibi_slopes_H[:, None, None] * distance_SK[:, None, None, :]
    return bias.masked_fill(~sees[:, None], float("-inf")).to(dtype)
