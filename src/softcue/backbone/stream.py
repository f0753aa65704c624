"""A batch as one stream of tokens: what must be computed, once each, and which tokens see which.

A row is divided into at most three pieces. Static context: leading words that no trainable token
precedes; their keys and values are kept between steps. Shared prefix: leading ids that all rows of one
prompt have in common; run once for all of them. Tail: the rest, followed by the nodes of its labels'
trie. No piece is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from torch import Tensor

from softcue.backbone.base import check_prefixes, row_prompts
from softcue.backbone.scoring import Trie, trie_of
from softcue.backbone.segments import AttentionSettings, Segment, SegmentGroup, group_segments
from softcue.contracts import Batch, Choices, Ids, PromptBank


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One row to run: its ids, its prompt and the trie of its labels.

    The first `num_static` ids are not run: their keys and values are known.
    """

    ids: Ids
    prompt: int
    trie: Trie
    num_static: int

    @property
    def static_ids(self) -> Ids:
        """The leading words whose keys and values are known."""
        return self.ids[: self.num_static]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """N tokens to run, in groups of segments; the groups follow each other in the stream."""

    ids_N: Tensor
    virtual_I: Tensor
    """Indices of virtual tokens."""
    positions_N: Tensor
    prompt_N: Tensor
    groups: tuple[SegmentGroup, ...]
    """The shared prefixes, if there are any, then the tails."""
    output_M: Tensor
    """Indices of the tokens that predict label tokens. Row by row: the context's end, the trie's nodes."""


def plan_rows(batch: Batch, bank: PromptBank, choices: Sequence[Choices]) -> list[RowPlan]:
    """What to run of each row, which may begin with a static context.

    If a row's prompt is keys and values, its virtual tokens are not run.
    """
    prompts = row_prompts(batch, bank)
    prefix_lengths = bank.prefix_lengths
    lengths = [prefix_lengths[prompt] for prompt in prompts]
    check_prefixes(batch.rows, lengths)
    rows = [row[length:] for row, length in zip(batch.rows, lengths, strict=True)]
    # Running tokens that all rows share once a step is cheaper than fetching a context for every row.
    num_shared = len(common_prefix(rows))
    return [
        RowPlan(
            ids=ids,
            prompt=prompt,
            trie=trie_of(row_choices),
            num_static=leading if (leading := _num_leading_tokens(ids)) > num_shared else 0,
        )
        for ids, prompt, row_choices in zip(rows, prompts, choices, strict=True)
    ]


def lay_out(rows: Sequence[RowPlan], settings: AttentionSettings) -> Stream:
    """The stream of a batch: its tokens, their positions, and which tokens see which."""
    shared, tails = split_shared(rows, settings.prefix_lengths)
    segments = shared + tails
    starts = list(accumulate((len(segment.all_ids) for segment in segments), initial=0))
    output = [
        index
        for start, tail in zip(starts[len(shared) : -1], tails, strict=True)
        for index in range(start + len(tail.ids) - 1, start + len(tail.all_ids))
    ]
    device = settings.device
    ids = [token for segment in segments for token in segment.all_ids]
    return Stream(
        ids_N=torch.tensor(ids, device=device),
        virtual_I=torch.tensor(
            [index for index, token in enumerate(ids) if token < 0], device=device, dtype=torch.long
        ),
        positions_N=torch.tensor([p for s in segments for p in s.positions], device=device),
        prompt_N=torch.tensor([s.prompt for s in segments for _ in s.all_ids], device=device),
        groups=tuple(group_segments(group, shared, settings) for group in (shared, tails) if group),
        output_M=torch.tensor(output, device=device),
    )


def split_shared(
    rows: Sequence[RowPlan], prefix_lengths: Sequence[int]
) -> tuple[list[Segment], list[Segment]]:
    """Divide rows into shared prefixes, at most one for each prompt, and tails of at least one token."""
    shared: list[Segment] = []
    shared_of: dict[int, int] = {}
    for prompt in dict.fromkeys(row.prompt for row in rows):
        ids = common_prefix([row.ids for row in rows if row.prompt == prompt and not row.num_static])
        if ids:
            shared_of[prompt] = len(shared)
            shared.append(Segment(ids=ids, first_position=prefix_lengths[prompt], prompt=prompt))
    tails = []
    for row in rows:
        own = None if row.num_static else shared_of.get(row.prompt)
        num_before = row.num_static if own is None else len(shared[own].ids)
        tails.append(
            Segment(
                ids=row.ids[num_before:],
                first_position=prefix_lengths[row.prompt] + num_before,
                prompt=row.prompt,
                num_static=row.num_static,
                shared=own,
                trie=row.trie,
            )
        )
    return shared, tails


def words_of(ids: Ids) -> Ids:
    """The vocabulary tokens among some ids."""
    return tuple(token for token in ids if token >= 0)


def words_in_order(rows: Sequence[RowPlan], prefix_lengths: Sequence[int]) -> list[tuple[RowPlan, slice]]:
    """Whose words the stream runs, segment by segment: a row, and which of its words and its trie's nodes."""
    shared, tails = split_shared(rows, prefix_lengths)
    first = {row.prompt: row for row in reversed(rows) if not row.num_static}
    found = [(first[segment.prompt], slice(len(words_of(segment.ids)))) for segment in shared]
    for row, tail in zip(rows, tails, strict=True):
        before = row.ids[: len(row.ids) - len(tail.ids)]
        found.append((row, slice(len(words_of(before)), None)))
    return found


def common_prefix(rows: Sequence[Ids]) -> Ids:
    """The leading ids that all rows share, without the last id of the shortest; none for a single row."""
    if len(rows) < 2:
        return ()
    limit = min(len(row) for row in rows) - 1
    columns = zip(*(row[:limit] for row in rows), strict=True)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))


def _num_leading_tokens(ids: Ids) -> int:
    """Vocabulary tokens before the first virtual token; 0 in a row without any, which trains nothing."""
    return next((index for index, token in enumerate(ids) if token < 0), 0)
