"""What does not change between steps is kept: keys and values of texts before the first trainable token.

In a suffix prompt's row the text comes before the prompt. Its keys and values are computed when it first
occurs, in any part of the data, and reused in every later epoch, validation and test. So are the states of
a whole row where its prompt enters, if that is above the first layer. Each text is run
alone: the last digits of a matrix product depend on the other rows in it, and a run that is resumed, or
has another budget, meets texts in other batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softcue.contracts import Ids

log = logging.getLogger(__name__)


class StaticContexts:
    """A store of contexts' keys and values [P, L, H, W], limited to a number of bytes.

    W is a key's size plus a value's. Contexts beyond the limit are computed again each time. Other results
    share the limit.
    """

    def __init__(self, compute: Callable[[Ids], Tensor]) -> None:
        self._compute = compute
        self._kept: dict[Hashable, Tensor] = {}
        self._num_bytes = 0
        self._budget_bytes = 0
        self._reported_full = True  # nothing to report until a budget is set

    def set_budget(self, budget_gb: float) -> None:
        """Keep at most this many gigabytes (10^9 bytes); drop contexts beyond it."""
        self._budget_bytes, self._reported_full = int(budget_gb * 1e9), False
        while self._num_bytes > self._budget_bytes:
            self._num_bytes -= _num_bytes(self._kept.popitem()[1])

    def clear(self) -> None:
        """Drop all contexts, for example when the model has moved to another device."""
        self._kept.clear()
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def side_by_side(self, contexts: Sequence[Ids]) -> Tensor:
        """The contexts' keys and values, padded at the end: [S, P, L, H, W]."""
        found = {ids: self.keep(ids, partial(self._compute, ids)) for ids in dict.fromkeys(contexts) if ids}
        found[()] = next(iter(found.values()))[:0]
        return pad_sequence([found[ids] for ids in contexts], batch_first=True)

    def keep(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The result of `compute`, or what it gave under this key before."""
        if key in self._kept:
            return self._kept[key]
        # Without autocast: later steps may use the context at the weights' own precision.
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            result = compute()
        if self._num_bytes + _num_bytes(result) <= self._budget_bytes:
            self._kept[key] = result
            self._num_bytes += _num_bytes(result)
        else:
            self._report_full()
        return result

    def _report_full(self) -> None:
        if not self._reported_full:
            log.info(
                "cache.budget_gb=%g holds %d contexts; others are computed again at every step",
                self._budget_bytes / 1e9,
                len(self._kept),
            )
            self._reported_full = True


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
