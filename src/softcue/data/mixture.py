"""Several tasks in one run: their rows share batches, and each row uses its own task's prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from softcue.data.chat import Turn
from softcue.data.collate import Collator, Example
from softcue.data.encode import Kind
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import PARTS, Batching, Part, RunData
from softcue.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from softcue.data.order import EpochShuffle


class MixedData(RunData):
    """Tasks under one prompt layout: each is split, encoded and scored separately, all train together.

    How often a row of each task is seen follows from `temperature`, as `MixtureShuffle` describes.
    """

    def __init__(
        self, *, name: str, tasks: Mapping[str, PromptData], temperature: float, batching: Batching
    ) -> None:
        if temperature <= 0:
            raise ConfigError(
                f"data.temperature is {temperature}; give a positive number, 1 for proportional."
            )
        counts = {key: task.template.num_virtual_tokens for key, task in tasks.items()}
        if len(set(counts.values())) > 1:
            raise ConfigError(
                f"data.tasks have {counts} virtual tokens; give their templates the same number."
            )
        first = next(iter(tasks.values()))
        super().__init__(task_name=name, layout=first.layout, template=first.template, batching=batching)
        self._tasks, self._temperature = dict(tasks), temperature

    @property
    def tasks(self) -> Mapping[str, PromptData]:
        return self._tasks

    @property
    def fingerprint(self) -> str:
        joined = " ".join(task.fingerprint for task in self._tasks.values())
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def read(self) -> None:
        for task in self._tasks.values():
            task.read()

    def load(self) -> None:
        for task in self._tasks.values():
            task.load()

    def encode(
        self,
        tokenizer: PreTrainedTokenizerFast,
        max_positions: int,
        *,
        padded: bool,
        turn: Turn | None = None,
        targets_apart: bool = False,
    ) -> None:
        for task in self._tasks.values():
            task.encode(tokenizer, max_positions, padded=padded, turn=turn, targets_apart=targets_apart)
        for part in PARTS:
            self.num_cut[part] = sum(task.num_cut[part] for task in self._tasks.values())
            cut = [counts[part] for task in self._tasks.values() if part in (counts := task.num_cut_targets)]
            self.num_cut_targets |= {part: sum(cut)} if cut else {}

    def ids(self, part: Part) -> list[str]:
        return [f"{key}/{name}" for key, task in self._tasks.items() for name in task.ids(part)]

    def examples(self, part: Part) -> list[Example]:
        examples = [example for task in self._tasks.values() for example in task.examples(part)]
        return [replace(example, row=at) for at, example in enumerate(examples)]

    def kinds(self, part: Part, row: int) -> list[Kind]:
        for task in self._tasks.values():
            if row < len(task.ids(part)):
                return task.kinds(part, row)
            row -= len(task.ids(part))
        raise AssertionError("a row of no task")

    def _order(self, examples: Sequence[Example]) -> EpochShuffle:
        from softcue.data.order import MixtureShuffle

        return MixtureShuffle(
            sizes=[len(task.examples("train")) for task in self._tasks.values()],
            temperature=self._temperature,
            seed=self.batching.seed,
            grouping=self.batching.grouping(examples),
        )

    @property
    def _collator(self) -> Collator:
        """Pads as the tasks' own collators do; if each has a fixed width, to the largest."""
        widths = [task._collator.width for task in self._tasks.values()]
        fixed = [width for width in widths if isinstance(width, int)]
        return Collator(width=max(fixed) if fixed else widths[0])
