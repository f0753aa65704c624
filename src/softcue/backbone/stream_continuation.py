"""Rows of the stream engine, continued by one token of every hypothesis at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softcue.backbone.attention import Plan
from softcue.backbone.ragged_cache import RaggedCache
from softcue.backbone.search import Continuation

Step = Callable[[Tensor, Tensor, Plan], Tensor]
"""Runs tokens [N] at positions [N] under a plan; returns the logits [N, V] of the next ones."""


@dataclass(frozen=True, kw_only=True)
class StepPlan(Plan):
    """The new tokens of all hypotheses as one row, of which each sees what the cache holds before it."""

    cache: RaggedCache

    def attend(
        self, layer: int, query_NHK: Tensor, key_NHK: Tensor, value_NHK: Tensor, scaling: float | None
    ) -> Tensor:
        return self.cache.attend(layer, query_NHK, key_NHK, value_NHK, scaling)


class StreamContinuation(Continuation):
    """Rows that have run once, with their keys and values."""

    def __init__(self, *, first_logits_NV: Tensor, cache: RaggedCache, step: Step) -> None:
        self._first_logits_NV, self._cache, self._step = first_logits_NV, cache, step

    @property
    def first_logits_NV(self) -> Tensor:
        return self._first_logits_NV

    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        self._cache.select(parents)
        positions_N = self._cache.positions_N
        self._cache.begin_step()
        token_N = torch.tensor(list(tokens), device=positions_N.device)
        plan = StepPlan(output_M=torch.arange(len(tokens), device=positions_N.device), cache=self._cache)
        return self._step(token_N, positions_N, plan)
