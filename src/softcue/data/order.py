"""The order of training rows: shuffled, grouped by length, or mixed from several tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self, cast

import torch
from torch.utils.data import Sampler

POOLED_BATCHES = 8
"""Batches' worth of shuffled rows that are sorted by length together."""


@dataclass(frozen=True, kw_only=True)
class LengthGrouping:
    """Batches of similar length: shuffled rows, sorted within pools of 8 batches, batches shuffled again.

    The bias: rows of similar length meet in a batch more often than by chance, so a batch's gradient
    also depends on whatever correlates with length, and a set smaller than a pool has the same batches
    in every epoch. The stream engine does not pad in either order; only its attention gains, and only
    where lengths differ widely.
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
        # The last batch may be short; anywhere but at the end it would shift the borders of the others.
        places = torch.randperm(len(shuffled) // self.batch_size, generator=generator).tolist()
        return [row for place in [*places, *range(len(places), len(batches))] for row in batches[place]]


@dataclass(frozen=True, kw_only=True)
class LoopPosition:
    """The position of a training loop: its epoch, the batches done in it, its process among several."""

    epoch: int
    batches: int
    rank: int
    num_processes: int


class EpochShuffle(Sampler[int]):
    """A new order for every epoch, determined by the seed and the epoch.

    Lightning calls `set_epoch`.
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
        # All processes take the same number of rows: where rows run out, the first ones are repeated.
        order += order[: len(self) * self._processes - self._num_rows]
        yield from order[self._rank :: self._processes][self._seen :]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        if epoch != self._epoch:
            self._epoch, self._seen = epoch, 0

    def start_at(self, position: LoopPosition, *, batch_size: int) -> Self:
        """Continue from a position: a resumed run sees the rows that it would have seen without a break.

        Processes that train together share the order's batches.
        """
        self._rank, self._processes = position.rank, position.num_processes
        self._epoch, self._seen = position.epoch, position.batches * batch_size
        return self

    def _order(self, generator: torch.Generator) -> list[int]:
        drawn = self._draw(generator)
        return drawn if self._grouping is None else self._grouping.arrange(drawn, generator)

    def _draw(self, generator: torch.Generator) -> list[int]:
        return cast(list[int], torch.randperm(self._num_rows, generator=generator).tolist())


class MixtureShuffle(EpochShuffle):
    """An order in which task k has a share of rows in proportion to n_k^(1 / temperature).

    Temperature 1 takes every row once; at a high temperature all tasks have about the same number of rows
    (Raffel et al. 2020, section 3.5.2). A task's rows are repeated, in a new order, only after all of them
    were taken.
    """

    def __init__(
        self, *, sizes: Sequence[int], temperature: float, seed: int, grouping: LengthGrouping | None = None
    ) -> None:
        super().__init__(num_rows=sum(sizes), seed=seed, grouping=grouping)
        self._sizes = sizes
        weights = [size ** (1 / temperature) for size in sizes]
        self._shares = [weight / sum(weights) for weight in weights]

    def _draw(self, generator: torch.Generator) -> list[int]:
        drawn: list[int] = []
        first = 0
        for size, count in zip(self._sizes, self._counts(), strict=True):
            drawn += [first + row for row in islice(cycle_shuffled(size, generator), count)]
            first += size
        return [drawn[at] for at in torch.randperm(len(drawn), generator=generator).tolist()]

    def _counts(self) -> list[int]:
        """Rows of each task in an epoch: whole numbers with the right sum, by largest remainder."""
        exact = [share * sum(self._sizes) for share in self._shares]
        counts = [int(number) for number in exact]
        behind = sorted(range(len(exact)), key=lambda task: counts[task] - exact[task])
        for task in behind[: sum(self._sizes) - sum(counts)]:
            counts[task] += 1
        return counts


def cycle_shuffled(size: int, generator: torch.Generator) -> Iterator[int]:
    """The numbers below `size` again and again, each time in a new order."""
    while True:
        yield from torch.randperm(size, generator=generator).tolist()


def _cut(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
