"""Keys and values of texts that nothing trainable precedes: they never change, so they are kept.

A suffix prompt's row is a text, then the prompt. The text's keys and values are computed the first
time it is met, in any part of the data, and serve every later epoch, validation and test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

Ids = tuple[int, ...]

log = logging.getLogger(__name__)


class StaticContexts:
    """A store of contexts' keys and values [P, L, 2, H, K], within a budget of bytes.

    What does not fit is computed again whenever it is asked for, still without gradients.
    """

    def __init__(self, compute: Callable[[Sequence[Ids]], list[Tensor]]) -> None:
        self._compute = compute
        self._kept: dict[Ids, Tensor] = {}
        self._num_bytes = 0
        self._budget_bytes = 0
        self._told = False

    def set_budget(self, budget_gb: float) -> None:
        """Hold at most this many gigabytes (10^9 bytes); contexts beyond it are dropped."""
        self._budget_bytes, self._told = int(budget_gb * 1e9), False
        while self._num_bytes > self._budget_bytes:
            self._num_bytes -= _num_bytes(self._kept.popitem()[1])

    def __len__(self) -> int:
        return len(self._kept)

    def side_by_side(self, contexts: Sequence[Ids]) -> Tensor:
        """The contexts' keys and values, padded at the end: [S, P, L, 2, H, K]."""
        wanted = list(dict.fromkeys(ids for ids in contexts if ids))
        missing = [ids for ids in wanted if ids not in self._kept]
        fresh = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        at_hand = {ids: fresh[ids] if ids in fresh else self._kept[ids] for ids in wanted}
        at_hand[()] = at_hand[wanted[0]][:0]
        self._keep(fresh)
        return pad_sequence([at_hand[ids] for ids in contexts], batch_first=True)

    def _keep(self, fresh: dict[Ids, Tensor]) -> None:
        for ids, keys_values in fresh.items():
            if self._num_bytes + _num_bytes(keys_values) > self._budget_bytes:
                self._say_full()
                return
            self._kept[ids] = keys_values
            self._num_bytes += _num_bytes(keys_values)

    def _say_full(self) -> None:
        if not self._told:
            log.info(
                "cache.budget_gb=%g holds %d contexts; others are computed again at every step",
                self._budget_bytes / 1e9,
                len(self._kept),
            )
            self._told = True


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
