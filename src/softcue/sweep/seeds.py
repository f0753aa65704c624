"""Settings of jobs that differ in their seed alone: two of them show which settings follow the seed."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from softcue.runs.identity import leaves

_SEED = re.compile(r"seed=(\d+)")


def split_seed(overrides: Sequence[str]) -> tuple[int | None, tuple[str, ...]]:
    """The seed that overrides set, if it is a plain number set once, and the other overrides."""
    matches = [match for text in overrides if (match := _SEED.fullmatch(text))]
    rest = tuple(text for text in overrides if not _SEED.fullmatch(text))
    return (int(matches[0][1]), rest) if len(matches) == 1 else (None, tuple(overrides))


@dataclass(kw_only=True)
class SeedSeries:
    """Jobs with the same overrides but for the seed, as far as they have been resolved."""

    resolved: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """The settings of the first two seeds."""

    def add(self, seed: int, settings: Mapping[str, Any]) -> None:
        """Note a job that was resolved in full."""
        if len(self.resolved) < 2:
            self.resolved[seed] = settings

    def at(self, seed: int) -> dict[str, Any] | None:
        """The settings under another seed; None until two are known, or if one follows in another way."""
        if len(self.resolved) < 2:
            return None
        (one, first), (other, second) = self.resolved.items()
        before, after = dict(leaves(first)), dict(leaves(second))
        moved = [path for path in before if path not in after or before[path] != after[path]]
        if before.keys() != after.keys() or any((before[p], after[p]) != (one, other) for p in moved):
            return None
        settings = copy.deepcopy(dict(first))
        for path in moved:
            *above, name = path.split(".")
            node = settings
            for key in above:
                node = node[key]
            node[name] = seed
        return settings
