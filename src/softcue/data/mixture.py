"""Several tasks in one training run: their rows share batches, each wears its own task's prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerFast

from softcue.data.collate import BatchWidth, Collator, EpochShuffle, LengthGrouping, Row
from softcue.data.datamodule import PARTS, Order, Part, PromptData, check_order, length_grouping
from softcue.data.encode import Kind
from softcue.data.template import Template
from softcue.errors import ConfigError


class MixedData(LightningDataModule):
    """Tasks under one prompt layout, each split, encoded and scored by itself, trained on together.

    In an epoch a task of n rows is seen in proportion to n^(1 / temperature): 1 shows every row once,
    a high temperature shows all tasks about equally often (Raffel et al. 2020, section 3.5.2). Its rows
    come again, in a new order, only when all of them have been seen.
    """

    def __init__(
        self,
        *,
        name: str,
        tasks: Mapping[str, PromptData],
        temperature: float,
        batch_size: int,
        order: Order,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigError(
                f"data.temperature is {temperature}; give a positive number, 1 for proportional."
            )
        counts = {key: task.template.num_virtual_tokens for key, task in tasks.items()}
        if len(set(counts.values())) > 1:
            raise ConfigError(
                f"data.tasks have {counts} virtual tokens; give their templates the same number."
            )
        check_order(order)
        self.task_name, self._tasks = name, dict(tasks)
        self._order, self._num_workers = order, num_workers
        self._temperature, self._batch_size, self._seed = temperature, batch_size, seed

    @property
    def tasks(self) -> Mapping[str, PromptData]:
        """Each task's own rows, in the order of the prompts they wear."""
        return self._tasks

    @property
    def layout(self) -> str:
        """The prompt's layout, the same for all."""
        return next(iter(self._tasks.values())).layout

    @property
    def template(self) -> Template:
        """The first task's template; all hold the same number of virtual tokens."""
        return next(iter(self._tasks.values())).template

    @property
    def num_cut(self) -> dict[Part, int]:
        """Rows whose text was cut, over all tasks."""
        return {part: sum(task.num_cut.get(part, 0) for task in self._tasks.values()) for part in PARTS}

    @property
    def fingerprint(self) -> str:
        """The content of all rows of all tasks, as 16 hex digits."""
        joined = " ".join(task.fingerprint for task in self._tasks.values())
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def read(self) -> None:
        """Read every task's rows, once."""
        for task in self._tasks.values():
            task.read()

    def load(self) -> None:
        """Read and split every task's rows, once."""
        for task in self._tasks.values():
            task.load()

    def encode(self, tokenizer: PreTrainedTokenizerFast, max_positions: int, *, padded: bool) -> None:
        """Make rows of ids of every task."""
        for task in self._tasks.values():
            task.encode(tokenizer, max_positions, padded=padded)

    def ids(self, part: Part) -> list[str]:
        """Each row's task and id."""
        return [f"{key}/{name}" for key, task in self._tasks.items() for name in task.ids(part)]

    def kinds(self, part: Part, row: int) -> list[Kind]:
        """What each token of a row is; rows are counted through all tasks."""
        for task in self._tasks.values():
            if row < len(task.ids(part)):
                return task.kinds(part, row)
            row -= len(task.ids(part))
        raise AssertionError("a row of no task")

    def rows(self, part: Part) -> list[Row]:
        """Every task's rows, counted through."""
        rows = [row for task in self._tasks.values() for row in task.rows(part)]
        return [replace(row, row=at) for at, row in enumerate(rows)]

    def train_dataloader(self) -> DataLoader[Row]:
        """Batches that mix the tasks, in an order that follows from the seed and the epoch."""
        rows = self.rows("train")
        sampler = MixtureShuffle(
            sizes=[len(task.rows("train")) for task in self._tasks.values()],
            temperature=self._temperature,
            seed=self._seed,
            grouping=length_grouping(self._order, rows, batch_size=self._batch_size),
        )
        return DataLoader(
            cast(Dataset[Row], rows),
            batch_size=self._batch_size,
            sampler=sampler.join(self.trainer, batch_size=self._batch_size),
            collate_fn=Collator(width=self._width()),
            num_workers=self._num_workers,
        )

    def _width(self) -> BatchWidth:
        """That of the tasks' own batches; the widest, where each is fixed."""
        widths = [task.batch_width for task in self._tasks.values()]
        fixed = [width for width in widths if isinstance(width, int)]
        return max(fixed) if fixed else widths[0]

    def val_dataloader(self) -> list[DataLoader[Row]]:
        """Validation batches, task by task; an empty list without validation rows."""
        loaders = [task.eval_dataloader("validation") for task in self._tasks.values()]
        return [loader for loader in loaders if isinstance(loader, DataLoader)]


class MixtureShuffle(EpochShuffle):
    """A fresh order every epoch in which task k has a share of rows that follows n_k^(1 / temperature)."""

    def __init__(
        self,
        *,
        sizes: Sequence[int],
        temperature: float,
        seed: int,
        grouping: LengthGrouping | None = None,
    ) -> None:
        super().__init__(num_rows=sum(sizes), seed=seed, grouping=grouping)
        self._sizes = sizes
        weights = [size ** (1 / temperature) for size in sizes]
        self._shares = [weight / sum(weights) for weight in weights]

    def _draw(self, generator: torch.Generator) -> list[int]:
        drawn: list[int] = []
        first = 0
        for size, count in zip(self._sizes, self._counts(), strict=True):
            own = (first + row for row in _again_and_again(size, generator))
            drawn += [next(own) for _ in range(count)]
            first += size
        return [drawn[at] for at in torch.randperm(len(drawn), generator=generator).tolist()]

    def _counts(self) -> list[int]:
        """Rows of each task in an epoch: whole numbers that add up, by largest remainder."""
        exact = [share * sum(self._sizes) for share in self._shares]
        counts = [int(number) for number in exact]
        behind = sorted(range(len(exact)), key=lambda task: counts[task] - exact[task])
        for task in behind[: sum(self._sizes) - sum(counts)]:
            counts[task] += 1
        return counts


def _again_and_again(size: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from torch.randperm(size, generator=generator).tolist()
