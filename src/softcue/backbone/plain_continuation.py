"""Rows of the plain engine, continued through the model's own forward.

With the model's own cache, where it is known to give the results of a whole row; otherwise every row is
run again with each token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache

from softcue.backbone.search import Continuation
from softcue.contracts import Batch, Ids

Step = Callable[[Tensor, Tensor, DynamicCache], Tensor]
"""Runs tokens [N] after a cache, under the mask [N, T] of both; returns the next logits [N, V]."""


class CachedContinuation(Continuation):
    """Rows in the model's own cache, padded on the left."""

    def __init__(self, *, first_logits_NV: Tensor, mask_NT: Tensor, cache: DynamicCache, step: Step) -> None:
        self._first_logits_NV, self._mask_NT, self._cache, self._step = first_logits_NV, mask_NT, cache, step

    @property
    def first_logits_NV(self) -> Tensor:
        return self._first_logits_NV

    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        parent_N = torch.tensor(list(parents), device=self._mask_NT.device)
        if list(parents) != list(range(len(self._mask_NT))):
            self._cache.reorder_cache(cast(torch.LongTensor, parent_N))
        before_NT = self._mask_NT[parent_N]
        self._mask_NT = torch.cat([before_NT, before_NT.new_ones(len(parents), 1)], dim=1)
        return self._step(torch.tensor(list(tokens), device=parent_N.device), self._mask_NT, self._cache)


class RepeatedContinuation(Continuation):
    """Rows that run in full for every token."""

    def __init__(self, batch: Batch, run: Callable[[Batch], Tensor]) -> None:
        self._batch, self._run = batch, run
        self._texts: list[tuple[int, Ids]] = [(row, ()) for row in range(len(batch))]

    @property
    def first_logits_NV(self) -> Tensor:
        return self._run(self._batch)

    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        before = [self._texts[parent] for parent in parents]
        self._texts = [(row, (*text, token)) for (row, text), token in zip(before, tokens, strict=True)]
        grown = self._batch.select([row for row, _ in self._texts])
        rows = tuple(row + text for row, (_, text) in zip(grown.rows, self._texts, strict=True))
        return self._run(replace(grown, rows=rows, padded=None))
