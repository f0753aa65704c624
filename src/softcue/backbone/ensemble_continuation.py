"""Rows that all prompts of an ensemble continue together.

The ensemble's next token has the mean of its members' probabilities. A vote of the majority is not
defined for text, whose every token would need one, so both kinds of ensembles generate this way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from softcue.backbone.search import Continuation


class EnsembleContinuation(Continuation):
    """Rows of which `members` holds `count` copies each, one after another, one for each prompt."""

    def __init__(self, members: Continuation, *, count: int) -> None:
        self._members, self._count = members, count
        self._first_logits_NV = self._mean(members.first_logits_NV, beams=1)
        self._num_beams = 1

    @property
    def first_logits_NV(self) -> Tensor:
        return self._first_logits_NV

    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        by_row: dict[int, list[tuple[int, int]]] = {}
        for parent, token in zip(parents, tokens, strict=True):
            row, beam = divmod(parent, self._num_beams)
            by_row.setdefault(row, []).append((beam, token))
        copies = [
            ((row * self._count + member) * self._num_beams + beam, token)
            for row, beams in by_row.items()
            for member in range(self._count)
            for beam, token in beams
        ]
        self._num_beams = len(parents) // len(by_row)
        logits = self._members.extend([parent for parent, _ in copies], [token for _, token in copies])
        return self._mean(logits, beams=self._num_beams)

    def _mean(self, logits: Tensor, *, beams: int) -> Tensor:
        log_probs_RMNV = logits.log_softmax(dim=1).view(-1, self._count, beams, logits.shape[1])
        return (log_probs_RMNV.logsumexp(dim=1) - math.log(self._count)).flatten(0, 1)
