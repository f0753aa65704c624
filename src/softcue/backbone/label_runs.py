"""A batch as left-padded rows followed by labels, for a model's own forward.

Labels are run without their last token, which is only predicted. A row runs once for each of these paths
that is not the beginning of another. Shape legend: R runs, T padded positions, J positions that predict
label tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from softcue.backbone.scoring import Trie
from softcue.contracts import Batch, Ids, PaddedRows


@dataclass(frozen=True, kw_only=True)
class LabelRun:
    """A row of the batch followed by one path of label tokens."""

    row: int
    prompt: int
    label: Ids


@dataclass(frozen=True, kw_only=True)
class PaddedRuns:
    """Runs that go through the model together, as tensors on the CPU."""

    ids_RT: Tensor
    """Row and label tokens; virtual token k is -1 - k, padding 0."""
    mask_RT: Tensor
    """True for tokens that are to be seen: no padding, and no virtual token of a key-value prompt."""
    prompt_R: Tensor
    num_outputs: int
    """J: the last positions, from each row's last token to its label's."""


def list_runs(prompts: Sequence[int], tries: Sequence[Trie]) -> list[LabelRun]:
    """The runs of a batch: for each row, the leaves of its trie."""
    return [
        LabelRun(row=row, prompt=prompt, label=leaf)
        for row, (prompt, trie) in enumerate(zip(prompts, tries, strict=True))
        for leaf in trie.leaves
    ]


def group_by_length(
    runs: Sequence[LabelRun], batch: Batch, prefix_lengths: Sequence[int]
) -> list[list[LabelRun]]:
    """Groups of runs that need no padding."""

    def lengths(run: LabelRun) -> tuple[int, int, int]:
        return len(batch.rows[run.row]), len(run.label), prefix_lengths[run.prompt]

    return [list(group) for _, group in groupby(sorted(runs, key=lengths), key=lengths)]


def pad_runs(
    runs: Sequence[LabelRun], batch: Batch, prefix_lengths: Sequence[int], *, as_batch: bool
) -> PaddedRuns:
    """Pad rows on the left, to the width of the batch's padded rows if `as_batch`, and labels on the right.

    A key-value prompt's virtual tokens come from the cache: columns that hold nothing else are removed,
    and the others are masked, like the padding before them.
    """
    if as_batch and batch.padded is not None:
        rows = batch.padded.select(torch.tensor([run.row for run in runs]))
    else:
        rows = PaddedRows.of([batch.rows[run.row] for run in runs])
    in_cache = min(prefix_lengths[run.prompt] for run in runs)
    ids_RT, mask_RT = rows.ids_BT[:, in_cache:], rows.mask_BT[:, in_cache:]
    if any(prefix_lengths):
        mask_RT = mask_RT & (ids_RT >= 0)
    longest = max(len(run.label) for run in runs)
    labels = [run.label + (0,) * (longest - len(run.label)) for run in runs]
    label_RJ = torch.tensor(labels, dtype=torch.long).view(len(runs), longest)
    is_label_RJ = torch.arange(longest) < torch.tensor([len(run.label) for run in runs])[:, None]
    return PaddedRuns(
        ids_RT=torch.cat([ids_RT, label_RJ], dim=1),
        mask_RT=torch.cat([mask_RT, is_label_RJ], dim=1),
        prompt_R=torch.tensor([run.prompt for run in runs]),
        num_outputs=1 + longest,
    )


def output_indices(
    groups: Sequence[Sequence[LabelRun]], widths: Sequence[int], tries: Sequence[Trie]
) -> list[int]:
    """Where each node of each row's trie is among the groups' flattened outputs, row by row.

    `widths` holds the number of outputs J of a run in each group.
    """
    index_of: dict[tuple[int, Ids], int] = {}
    first = 0
    for group, width in zip(groups, widths, strict=True):
        for run in group:
            for length in range(len(run.label) + 1):
                index_of.setdefault((run.row, run.label[:length]), first + length)
            first += width
    return [index_of[row, path] for row, trie in enumerate(tries) for path in trie.node_paths]
