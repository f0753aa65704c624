"""The rows of a run, of one task or several, in two steps: text first, then ids for one tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from softcue.data.chat import Turn
from softcue.data.collate import Collator, Example
from softcue.data.encode import Kind
from softcue.data.template import Template
from softcue.errors import ConfigError

# Imported where they are used: torch and transformers take seconds, and a dry run needs neither.
if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset
    from transformers import PreTrainedTokenizerFast

    from softcue.data.order import EpochShuffle, LengthGrouping, LoopPosition
    from softcue.data.prompt_data import PromptData

Part = Literal["train", "validation", "test", "unlabelled"]
PARTS: tuple[Part, ...] = get_args(Part)
ON_REQUEST: tuple[Part, ...] = ("train", "unlabelled")
"""Parts that are scored only if the setting `predict_train` or `predict_unlabelled` asks for it."""
Rows = Part | tuple[str, ...]
"""The rows of a part, or texts that stand for every column of a row without a label."""
Order = Literal["shuffled", "length_grouped"]


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How rows become batches; the same for all tasks of a run.

    Raises:
        ConfigError: an unknown order.
    """

    batch_size: int
    eval_batch_size: int
    padding: Literal["longest", "max_length"]
    order: Order
    seed: int
    num_workers: int

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise ConfigError(f"data.order={self.order}; choose {' or '.join(get_args(Order))}.")

    def grouping(self, examples: Sequence[Example]) -> LengthGrouping | None:
        """How `order` rearranges shuffled rows; None: not at all."""
        from softcue.data.order import LengthGrouping

        lengths = [len(example.ids) for example in examples]
        grouped = self.order == "length_grouped"
        return LengthGrouping(lengths=lengths, batch_size=self.batch_size) if grouped else None


class RunData(ABC):
    """The rows of a run under one prompt layout, split into parts, encoded and batched.

    `load` provides the text, which is enough for a baseline without a tokenizer; `encode` makes rows of ids
    from it.
    """

    def __init__(self, *, task_name: str, layout: str, template: Template, batching: Batching) -> None:
        self.task_name, self.layout, self.template, self.batching = task_name, layout, template, batching
        self.num_cut: dict[Part, int] = {}
        """Rows of each part whose text had to be cut, once they are encoded."""
        self.num_cut_targets: dict[Part, int] = {}
        """Rows of each part of a text task whose target had to be cut."""

    @property
    @abstractmethod
    def tasks(self) -> Mapping[str, PromptData]:
        """Each task's own rows, in the order of the prompts that they use."""

    @property
    def num_rows(self) -> dict[Part, int]:
        """How many rows each part has."""
        return {part: len(self.ids(part)) for part in PARTS}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A digest of all rows, as 16 hex digits; "unknown" before they are read."""

    @abstractmethod
    def read(self) -> None:
        """Read the rows, once.

        Raises:
            DataError, TemplateError: rows that cannot be used.
        """

    @abstractmethod
    def load(self) -> None:
        """Read and split the rows, once; raises as `read` does."""

    @abstractmethod
    def encode(
        self,
        tokenizer: PreTrainedTokenizerFast,
        max_positions: int,
        *,
        padded: bool,
        turn: Turn | None = None,
        targets_apart: bool = False,
    ) -> None:
        """Make rows of ids that fit `max_positions`, and count the rows whose text is cut for that.

        With `padded`, batches are padded on the left as `data.padding` names it. `turn` is that of a chat
        in which the rows stand.
        """

    @abstractmethod
    def ids(self, part: Part) -> list[str]:
        """Each row's id in its source; with several tasks, after its task's name."""

    @abstractmethod
    def examples(self, part: Part) -> list[Example]:
        """Each row encoded, in the order of `ids`."""

    @abstractmethod
    def kinds(self, part: Part, row: int) -> list[Kind]:
        """What each token of a row is."""

    @abstractmethod
    def _order(self, examples: Sequence[Example]) -> EpochShuffle:
        """The order of the training rows."""

    @property
    @abstractmethod
    def _collator(self) -> Collator:
        """Makes batches of encoded rows."""

    def train_dataloader(self, start: LoopPosition | None = None) -> DataLoader[Example]:
        """Training batches from a position on; None: from the start, in one process."""
        examples, size = self._training_examples(), self.batching.batch_size
        order = self._order(examples)
        if start is not None:
            order.start_at(start, batch_size=size)
        return self._loader(examples, batch_size=size, order=order)

    def _training_examples(self) -> list[Example]:
        """The rows that a pass over the training data sees."""
        return self.examples("train")

    def val_dataloaders(self) -> list[DataLoader[Example]]:
        """The validation batches of each task that has validation rows."""
        tasks = [task for task in self.tasks.values() if task.ids("validation")]
        return [task.eval_dataloader("validation") for task in tasks]

    def _loader(
        self, examples: Sequence[Example], *, batch_size: int, order: EpochShuffle | None = None
    ) -> DataLoader[Example]:
        from torch.utils.data import DataLoader

        return DataLoader(
            cast("Dataset[Example]", examples),  # a loader needs no more of a dataset than a list has
            batch_size=batch_size,
            sampler=order,
            collate_fn=self._collator,
            num_workers=self.batching.num_workers,
        )
