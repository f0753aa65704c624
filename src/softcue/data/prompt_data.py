"""The rows of one task under one prompt layout."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from softcue.data.chat import Turn
from softcue.data.collate import Collator, Example
from softcue.data.columns import Columns
from softcue.data.demonstrations import demonstration
from softcue.data.encode import Encoder, Kind
from softcue.data.encoded import EncodedRow
from softcue.data.pool import Pool, Source, load_pool
from softcue.data.run_data import PARTS, Batching, Part, Rows, RunData
from softcue.data.splits import Parts, Splitter
from softcue.data.task import REFERENCES, Task, TextTask
from softcue.data.template import compose
from softcue.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerFast

    from softcue.contracts import Choices, Demonstration
    from softcue.data.order import EpochShuffle

log = logging.getLogger(__name__)


class PromptData(RunData):
    """A task's rows. Those without a label are only in the part "unlabelled".

    `prompt` is the prompt of the bank that the rows use.
    """

    def __init__(
        self,
        *,
        source: Source,
        task: Task,
        layout: str,
        splitter: Splitter,
        batching: Batching,
        max_length: int | None,
        cache_dir: str | None,
        prompt: int = 0,
        max_target_length: int | None = None,
        num_unlabelled: int | None = None,
    ) -> None:
        super().__init__(
            task_name=task.name, layout=layout, template=compose(layout, task.template), batching=batching
        )
        if batching.padding == "max_length" and max_length is None:
            raise ConfigError("data.padding is max_length and data.max_length is null. Set one or the other.")
        self.task = task
        self._source, self._splitter, self._max_length = source, splitter, max_length
        self._cache_dir, self._prompt, self._max_target_length = cache_dir, prompt, max_target_length
        self._num_unlabelled = num_unlabelled or 0
        self._pool: Pool | None = None
        self._parts: Parts | None = None
        self._encoder: Encoder | None = None
        self._padded = False
        self._examples: dict[Part, list[Example]] = {}

    @property
    def tasks(self) -> Mapping[str, PromptData]:
        return {self.task_name: self}

    @property
    def fingerprint(self) -> str:
        return self._pool.fingerprint if self._pool else "unknown"

    def read(self) -> None:
        if self._pool is None:
            self._pool = load_pool(self._source, self.task)

    def load(self) -> None:
        self.read()
        if self._parts is None:
            self._parts = self._splitter.split(self._loaded_pool, self.task.classes)
            found = len(self._loaded_pool.unlabelled)
            if self._num_unlabelled > found:
                raise DataError(
                    f"data.train_unlabelled is {self._num_unlabelled}, and {self.task_name} has {found} rows "
                    "without a label. Ask for fewer, or leave more labels empty."
                )

    def encode(
        self,
        tokenizer: PreTrainedTokenizerFast,
        max_positions: int,
        *,
        padded: bool,
        turn: Turn | None = None,
        targets_apart: bool = False,
    ) -> None:
        self.load()
        self._encoder = Encoder(
            template=self.template,
            task=self.task,
            tokenizer=tokenizer,
            max_length=self._max_length,
            max_positions=max_positions,
            max_target_length=self._max_target_length,
            turn=turn,
            targets_apart=targets_apart,
        )
        self._padded = padded
        for part in PARTS:
            self._examples[part] = self._encode_part(part)

    @property
    def parts(self) -> Parts:
        """The labelled rows, split."""
        assert self._parts is not None, "load() comes first"
        return self._parts

    @property
    def choices(self) -> Choices:
        """The label tokens of each class; none in a text task."""
        return self.encoder.choices

    @property
    def has_texts(self) -> bool:
        """Whether texts follow the rows, not labels."""
        return isinstance(self.task, TextTask)

    @property
    def encoder(self) -> Encoder:
        """Text to ids, for the tokenizer that `encode` was given."""
        assert self._encoder is not None, "encode() comes first"
        return self._encoder

    @property
    def answer_after(self) -> str | None:
        """The mark of an answer in the texts that follow the rows."""
        return self.task.target.answer_after if isinstance(self.task, TextTask) else None

    def texts(self, rows: Rows) -> list[str]:
        """Each row's plain text: its columns, joined by line breaks."""
        if not isinstance(rows, str):
            return list(rows)
        return ["\n".join(row[name] for name in self.template.columns) for row in self._table(rows).rows()]

    def targets(self, rows: Rows) -> list[int]:
        """Each row's class index, -1 in the unlabelled part and for texts; 0 where a text follows the row."""
        if not isinstance(rows, str):
            return [-1] * len(rows)
        table = self._table(rows)
        if rows == "unlabelled":
            return [-1] * len(table)
        if self.has_texts:
            return [0] * len(table)
        return [self.task.classes.index(label) for label in table["label"]]

    def references(self, part: Part) -> list[tuple[str, ...]]:
        """The texts that may follow each row of a text task: none in the unlabelled part."""
        table = self._table(part)
        if part == "unlabelled":
            return [()] * len(table)
        return [tuple(json.loads(texts)) for texts in table[REFERENCES]]

    def ids(self, part: Part) -> list[str]:
        return list(self._table(part)["id"])

    def examples(self, rows: Rows) -> list[Example]:
        if isinstance(rows, str):
            return self._examples[rows]
        columns = self.template.columns
        encoded = [self.encoder.encode_row(dict.fromkeys(columns, text)) for text in rows]
        return self._as_examples(encoded, self.targets(rows), self._row_choices(rows, len(encoded)))

    def _training_examples(self) -> list[Example]:
        return [*self.examples("train"), *self.examples("unlabelled")[: self._num_unlabelled]]

    def kinds(self, part: Part, row: int) -> list[Kind]:
        return self.encoder.kinds(self._table(part).row(row))

    def demonstrations(self) -> tuple[Demonstration, ...]:
        """The training rows with their labels, or the texts that follow them."""
        pairs = zip(self._table("train").rows(), self._examples["train"], strict=True)
        return tuple(demonstration(self.encoder, row, own.choices[own.target]) for row, own in pairs)

    def eval_dataloader(self, rows: Rows) -> DataLoader[Example]:
        """Batches of rows of similar length; `Batch.row_B` are the rows' numbers."""
        return self.eval_batches(self.examples(rows))

    def eval_batches(self, examples: Sequence[Example]) -> DataLoader[Example]:
        """Batches of encoded rows, those of similar length together."""
        by_length = sorted(examples, key=lambda example: len(example.ids))
        return self._loader(by_length, batch_size=self.batching.eval_batch_size)

    def _order(self, examples: Sequence[Example]) -> EpochShuffle:
        from softcue.data.order import EpochShuffle

        return EpochShuffle(
            num_rows=len(examples), seed=self.batching.seed, grouping=self.batching.grouping(examples)
        )

    @property
    def _collator(self) -> Collator:
        fixed = self.encoder.max_row_length if self.batching.padding == "max_length" else None
        return Collator(width=(fixed or "longest") if self._padded else None)

    @property
    def _loaded_pool(self) -> Pool:
        assert self._pool is not None, "load() comes first"
        return self._pool

    def _table(self, part: Part) -> Columns:
        tables = {"train": self.parts.train, "validation": self.parts.validation, "test": self.parts.test}
        return tables.get(part, self._loaded_pool.unlabelled)

    def _encode_part(self, part: Part) -> list[Example]:
        encoded = self.encoder.encode_dataset(self._table(part), cache_dir=self._cache_dir, part=part)
        num_cut = self.num_cut[part] = sum(row.was_cut for row in encoded)
        if num_cut:
            log.info(
                "%d of %d %s rows were cut to %d tokens",
                *(num_cut, len(encoded), part, self.encoder.max_length),
            )
        return self._as_examples(encoded, self.targets(part), self._row_choices(part, len(encoded)))

    def _row_choices(self, rows: Rows, count: int) -> list[Choices]:
        """What may follow each row: the labels of all classes, or its own text alone."""
        encoder = self.encoder.target
        if encoder is None:
            return [self.choices] * count
        if not isinstance(rows, str) or rows == "unlabelled":
            return [((encoder.end_token,),)] * count
        targets = [encoder.encode(texts[0]) for texts in self.references(rows)]
        num_cut = self.num_cut_targets[rows] = sum(target.was_cut for target in targets)
        if num_cut:
            log.info("%d of %d %s targets were cut to %d tokens", *(num_cut, count, rows, encoder.max_length))
        return [(target.ids,) for target in targets]

    def _as_examples(
        self, encoded: Sequence[EncodedRow], targets: Sequence[int], choices: Sequence[Choices]
    ) -> list[Example]:
        return [
            Example(ids=row.ids, choices=own, target=target, prompt=self._prompt, row=at)
            for at, (row, target, own) in enumerate(zip(encoded, targets, choices, strict=True))
        ]
