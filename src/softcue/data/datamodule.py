"""The data of a run in two steps: load text without any model, then encode it for one tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal, cast, get_args

import datasets
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerFast

from softcue.contracts import Choices
from softcue.data.collate import BatchWidth, Collator, EpochShuffle, LengthGrouping, Row
from softcue.data.encode import Encoder, Kind
from softcue.data.pool import Pool, Source
from softcue.data.splits import Parts, Splitter
from softcue.data.task import Task
from softcue.data.template import Template, compose
from softcue.errors import ConfigError

_logger = logging.getLogger(__name__)

Part = Literal["train", "validation", "test", "unlabelled"]
Order = Literal["shuffled", "length_grouped"]
PARTS: tuple[Part, ...] = ("train", "validation", "test", "unlabelled")


def check_order(order: str) -> None:
    """Refuse an order of training rows that there is not."""
    if order not in get_args(Order):
        raise ConfigError(f"data.order={order}; choose {' or '.join(get_args(Order))}.")


def length_grouping(order: Order, rows: Sequence[Row], *, batch_size: int) -> LengthGrouping | None:
    """How `order` arranges shuffled rows; None: as they are."""
    lengths = [len(row.ids) for row in rows]
    return LengthGrouping(lengths=lengths, batch_size=batch_size) if order == "length_grouped" else None


class PromptData(LightningDataModule):
    """A task's rows under one prompt layout, split, encoded and batched.

    `load` makes the text ready, which is all that a baseline without a tokenizer needs; `encode`
    makes rows of ids from it. Unlabelled rows are only ever in the part "unlabelled". Among several
    tasks, `prompt` says which prompt of the bank this one's rows wear.
    """

    def __init__(
        self,
        *,
        source: Source,
        task: Task,
        layout: str,
        splitter: Splitter,
        batch_size: int,
        eval_batch_size: int,
        max_length: int | None,
        padding: Literal["longest", "max_length"],
        order: Order,
        seed: int,
        cache_dir: str | None,
        num_workers: int,
        prompt: int = 0,
    ) -> None:
        super().__init__()
        if padding == "max_length" and max_length is None:
            raise ConfigError("data.padding is max_length and data.max_length is null. Set one or the other.")
        self.task, self.layout = task, layout
        self.template: Template = compose(layout, task.template)
        self.num_cut: dict[Part, int] = {}
        check_order(order)
        self._source, self._splitter = source, splitter
        self._batch_size, self._eval_batch_size = batch_size, eval_batch_size
        self._max_length, self._padding, self._order = max_length, padding, order
        self._seed, self._cache_dir, self._num_workers = seed, cache_dir, num_workers
        self._prompt = prompt
        self._pool: Pool | None = None
        self._parts: Parts | None = None
        self._rows: dict[Part, list[Row]] = {}
        self._collator: Collator | None = None
        self._encoder: Encoder | None = None

    def read(self) -> None:
        """Read the rows, once; raises a DataError or TemplateError for what cannot be used."""
        if self._pool is None:
            self._pool = self._source.load(self.task)

    def load(self) -> None:
        """Read and split the rows, once; raises as `read` does."""
        self.read()
        if self._parts is None:
            self._parts = self._splitter.split(self._loaded_pool, self.task.classes)

    def encode(self, tokenizer: PreTrainedTokenizerFast, max_positions: int, *, padded: bool) -> None:
        """Make rows of ids that fit `max_positions`, counting the rows whose text had to be cut.

        `padded` pads batches on the left, as `data.padding` says, for an engine that asks for it.
        """
        self.load()
        encoder = Encoder(
            template=self.template,
            task=self.task,
            tokenizer=tokenizer,
            max_length=self._max_length,
            max_positions=max_positions,
        )
        self._encoder = encoder
        fixed = encoder.max_row_length if self._padding == "max_length" else None
        self._collator = Collator(width=(fixed or "longest") if padded else None)
        for part in PARTS:
            self._rows[part] = self._encode_part(encoder, part)

    @property
    def fingerprint(self) -> str:
        """The content of all rows, as 16 hex digits; "unknown" before they are read."""
        return self._pool.fingerprint if self._pool else "unknown"

    @property
    def parts(self) -> Parts:
        """The labelled rows, split."""
        assert self._parts is not None, "load() comes first"
        return self._parts

    @property
    def task_name(self) -> str:
        """What records call the data."""
        return self.task.name

    @property
    def tasks(self) -> Mapping[str, PromptData]:
        """The tasks of a run by name: this one alone."""
        return {self.task_name: self}

    @property
    def choices(self) -> Choices:
        """The label tokens of each class."""
        assert self._encoder is not None, "encode() comes first"
        return self._encoder.choices

    def texts(self, part: Part) -> list[str]:
        """Each row's plain text: its columns, joined by line breaks."""
        table = self._table(part)
        return ["\n".join(row[name] for name in self.template.columns) for row in table]

    def targets(self, part: Part) -> list[int]:
        """Each row's class index, -1 in the unlabelled part."""
        table = self._table(part)
        if part == "unlabelled":
            return [-1] * len(table)
        return [self.task.classes.index(label) for label in table["label"]]

    def ids(self, part: Part) -> list[str]:
        """Each row's id in its source."""
        return list(self._table(part)["id"])

    def rows(self, part: Part) -> list[Row]:
        """Each row encoded, in the table's order."""
        return self._rows[part]

    def kinds(self, part: Part, row: int) -> list[Kind]:
        """What each token of a row is."""
        assert self._encoder is not None, "encode() comes first"
        return self._encoder.kinds(self._table(part)[row])

    def train_dataloader(self) -> DataLoader[Row]:
        """Training batches, in an order that follows from the seed and the epoch."""
        rows = self._rows["train"]
        grouping = length_grouping(self._order, rows, batch_size=self._batch_size)
        sampler = EpochShuffle(num_rows=len(rows), seed=self._seed, grouping=grouping)
        sampler.join(self.trainer, batch_size=self._batch_size)
        return self._loader(rows, batch_size=self._batch_size, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Row] | list[DataLoader[Row]]:
        """Validation batches; an empty list without validation rows."""
        return self.eval_dataloader("validation")

    def test_dataloader(self) -> DataLoader[Row] | list[DataLoader[Row]]:
        """Test batches; an empty list without test rows."""
        return self.eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Row] | list[DataLoader[Row]]:
        """Batches of unlabelled rows; an empty list if there are none."""
        return self.eval_dataloader("unlabelled")

    def eval_dataloader(self, part: Part) -> DataLoader[Row] | list[DataLoader[Row]]:
        """A part's batches, rows of similar length together; `Batch.row_B` says which row is which."""
        rows = sorted(self._rows[part], key=lambda row: len(row.ids))
        return self._loader(rows, batch_size=self._eval_batch_size, sampler=None) if rows else []

    @property
    def batch_width(self) -> BatchWidth:
        """Positions to which batches are padded."""
        return self._encoded_collator.width

    @property
    def _loaded_pool(self) -> Pool:
        assert self._pool is not None, "load() comes first"
        return self._pool

    @property
    def _encoded_collator(self) -> Collator:
        assert self._collator is not None, "encode() comes first"
        return self._collator

    def _table(self, part: Part) -> datasets.Dataset:
        tables = {"train": self.parts.train, "validation": self.parts.validation, "test": self.parts.test}
        return tables.get(part, self._loaded_pool.unlabelled)

    def _encode_part(self, encoder: Encoder, part: Part) -> list[Row]:
        encoded = encoder.encode_dataset(self._table(part), cache_dir=self._cache_dir, part=part)
        num_cut = sum(row.was_cut for row in encoded)
        if num_cut:
            _logger.info(
                "%d of %d %s rows were cut to %d tokens", num_cut, len(encoded), part, encoder.max_length
            )
        self.num_cut[part] = num_cut
        return [
            Row(ids=row.ids, choices=encoder.choices, target=target, prompt=self._prompt, row=at)
            for at, (row, target) in enumerate(zip(encoded, self.targets(part), strict=True))
        ]

    def _loader(self, rows: list[Row], *, batch_size: int, sampler: Sampler[int] | None) -> DataLoader[Row]:
        return DataLoader(
            cast(Dataset[Row], rows),  # a list has all that a loader asks of a dataset
            batch_size=batch_size,
            sampler=sampler,
            collate_fn=self._encoded_collator,
            num_workers=self._num_workers,
        )
