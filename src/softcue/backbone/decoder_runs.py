"""The decoder's runs over the tries of a batch: the start once per row, then each path of label tokens.

Letters: R runs, J positions of a run, M nodes of all tries, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softcue.backbone.scoring import Trie
from softcue.contracts import Ids


@dataclass(frozen=True, kw_only=True)
class DecoderRuns:
    """Paths that the decoder runs after the start token, and where each trie's nodes are among them."""

    rows: tuple[int, ...]
    """The row of each run, in order of rows."""
    paths: tuple[Ids, ...]
    starts: bool
    """Whether the runs begin with the start token: else that runs before, once for each row."""

    @classmethod
    def of(cls, tries: Sequence[Trie]) -> DecoderRuns:
        """One run for each leaf; the start is run apart where a row has several."""
        leaves = [(row, leaf) for row, trie in enumerate(tries) for leaf in trie.leaves]
        starts = len(leaves) == len(tries)
        return cls(
            rows=tuple(row for row, _ in leaves), paths=tuple(leaf for _, leaf in leaves), starts=starts
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest path."""
        return max(map(len, self.paths))

    @property
    def ids_RJ(self) -> Tensor:
        """The paths' tokens, padded with token 0 on the right, where no other token sees it."""
        ids = [path + (0,) * (self.longest - len(path)) for path in self.paths]
        return torch.tensor(ids, dtype=torch.long).view(len(ids), self.longest)

    def node_indices(self, tries: Sequence[Trie]) -> list[int]:
        """Where each trie's nodes are in the flattened outputs: those of the starts, then of the paths.

        If the runs begin with the start token, its output is the first of each run.
        """
        found: dict[tuple[int, Ids], int] = {}
        if not self.starts:
            found = {(row, ()): row for row in range(len(tries))}
        first = 0 if self.starts else len(tries)
        shortest = 0 if self.starts else 1
        for row, path in zip(self.rows, self.paths, strict=True):
            for length in range(shortest, len(path) + 1):
                found.setdefault((row, path[:length]), first + length - shortest)
            first += self.longest + 1 - shortest
        return [found[row, path] for row, trie in enumerate(tries) for path in trie.node_paths]
