"""Rows to batches: their order in an epoch, and padding on the left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self, cast

import torch
from lightning import Trainer
from torch.utils.data import Sampler

from softcue.contracts import Batch, Choices, PaddedRows


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table, ready to batch: `target` is -1 without a label, `row` its place in the table."""

    ids: Sequence[int]
    choices: Choices
    target: int
    prompt: int
    row: int


BatchWidth = Literal["longest"] | int | None
"""The longest row of the batch, or a fixed number of positions; None leaves rows unpadded."""


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Joins rows to a batch, padded on the left to `width` for an engine that asks for it."""

    width: BatchWidth

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """One batch, its rows in the given order."""
        ids = tuple(tuple(row.ids) for row in rows)
        fixed = None if self.width == "longest" else self.width
        return Batch(
            rows=ids,
            padded=None if self.width is None else PaddedRows.of(ids, width=fixed),
            choices=tuple(row.choices for row in rows),
            target_B=torch.tensor([row.target for row in rows]),
            prompt_B=torch.tensor([row.prompt for row in rows]),
            row_B=torch.tensor([row.row for row in rows]),
        )


POOLED_BATCHES = 8
"""Batches' worth of shuffled rows that are sorted by length together."""


@dataclass(frozen=True, kw_only=True)
class LengthGrouping:
    """Batches of similar length: shuffled rows, sorted within pools of 8 batches, batches shuffled again.

    The bias: rows of similar length meet in a batch more often than chance would have them, so a
    batch's gradient also follows whatever goes with length, and a set of fewer rows than a pool
    meets in the same batches every epoch. Rows run without padding on the stream engine in either
    order; only attention gains there, and only where lengths differ widely.
    """

    lengths: Sequence[int]
    batch_size: int

    def arrange(self, shuffled: Sequence[int], generator: torch.Generator) -> list[int]:
        """The same rows in another order."""
        ordered = [
            row
            for pool in _cut(shuffled, POOLED_BATCHES * self.batch_size)
            for row in sorted(pool, key=self.lengths.__getitem__)
        ]
        batches = _cut(ordered, self.batch_size)
        # The last batch may be short; only at the end does it leave the others whole.
        places = torch.randperm(len(shuffled) // self.batch_size, generator=generator).tolist()
        return [row for place in [*places, *range(len(places), len(batches))] for row in batches[place]]


class EpochShuffle(Sampler[int]):
    """A fresh order every epoch, the same one for the same seed and epoch.

    Lightning calls `set_epoch`. `join` makes it one run's or one process's part: a run that is resumed
    sees the rows it would have seen, and processes that train together share an order's batches.
    """

    def __init__(self, *, num_rows: int, seed: int, grouping: LengthGrouping | None = None) -> None:
        self._num_rows, self._seed, self._grouping, self._epoch = num_rows, seed, grouping, 0
        self._seen, self._rank, self._processes = 0, 0, 1

    def __len__(self) -> int:
        return math.ceil(self._num_rows / self._processes)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        for _ in range(self._epoch):
            self._order(generator)
        order = self._order(generator)
        # All processes take as many batches: where rows run out, the first ones come again.
        order += order[: len(self) * self._processes - self._num_rows]
        yield from order[self._rank :: self._processes][self._seen :]

    def set_epoch(self, epoch: int) -> None:
        """Turn to an epoch's order."""
        if epoch != self._epoch:
            self._epoch, self._seen = epoch, 0

    def join(self, trainer: Trainer | None, *, batch_size: int) -> Self:
        """Take the part of the trainer's process, from where its loop stands; None: alone, from the start."""
        if trainer is not None:
            self._rank, self._processes = trainer.global_rank, trainer.world_size
            loop = trainer.fit_loop
            self._epoch = trainer.current_epoch
            self._seen = loop.epoch_loop.batch_progress.current.completed * batch_size
        return self

    def _order(self, generator: torch.Generator) -> list[int]:
        drawn = self._draw(generator)
        return drawn if self._grouping is None else self._grouping.arrange(drawn, generator)

    def _draw(self, generator: torch.Generator) -> list[int]:
        return cast(list[int], torch.randperm(self._num_rows, generator=generator).tolist())


def _cut(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
