"""Rows to batches, padded on the left for a backbone that takes padded rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from softcue.contracts import Batch, Choices


@dataclass(frozen=True, kw_only=True)
class Example:
    """One encoded row of a table: its class `target`, -1 without a label, and its number `row` there.

    `prompt` is the prompt of the bank that it uses.
    """

    ids: Sequence[int]
    choices: Choices
    target: int
    prompt: int
    row: int


BatchWidth = Literal["longest"] | int | None
"""The longest row of the batch, or a fixed number of positions; None: rows are not padded."""


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Makes a batch of rows, padded on the left to `width`."""

    width: BatchWidth

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """One batch, its rows in the given order."""
        import torch

        from softcue.contracts import Batch, PaddedRows

        ids = tuple(tuple(example.ids) for example in examples)
        fixed = None if self.width == "longest" else self.width
        return Batch(
            rows=ids,
            padded=None if self.width is None else PaddedRows.of(ids, width=fixed),
            choices=tuple(example.choices for example in examples),
            target_B=torch.tensor([example.target for example in examples]),
            prompt_B=torch.tensor([example.prompt for example in examples]),
            row_B=torch.tensor([example.row for example in examples]),
        )
