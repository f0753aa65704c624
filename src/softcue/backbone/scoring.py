"""Classes as a trie of their label tokens: the context runs once, shared beginnings once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from softcue.contracts import Choices


@dataclass(frozen=True, kw_only=True)
class Trie:
    """The label tokens of C classes. Node 0 is the end of the context.

    Only nodes with something after them are kept: the last token of a label is read off as a
    probability and never run.
    """

    tokens: tuple[int, ...]
    """Nodes 1, 2, …: the token each stands for; a parent comes before its children."""
    parents: tuple[int, ...]
    """Nodes 1, 2, …: the node each follows."""
    edge_nodes: tuple[int, ...]
    edge_tokens: tuple[int, ...]
    """Edges: the node that predicts, and the token that is predicted."""
    paths: tuple[tuple[int, ...], ...]
    """For each class, the edges its label takes."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Nodes 1, 2, …: tokens after the context, counting from 0."""
        depths = [-1]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return tuple(depths[1:])

    @property
    def branches(self) -> bool:
        """Whether the nodes are anything but one path."""
        return self.parents != tuple(range(len(self.parents)))

    def ancestors(self) -> Tensor:
        """Who sees whom among nodes 1, 2, …: bool [nodes, nodes], each sees itself."""
        sees = torch.eye(len(self.tokens), dtype=torch.bool)
        for child, parent in enumerate(self.parents):
            if parent > 0:
                sees[child] |= sees[parent - 1]
        return sees


@lru_cache(maxsize=4096)
def trie_of(choices: Choices) -> Trie:
    """The trie of some classes' label tokens."""
    nodes: dict[tuple[int, ...], int] = {(): 0}
    parents: list[int] = []
    edges: dict[tuple[int, int], int] = {}
    paths: list[tuple[int, ...]] = []
    for label in choices:
        assert label, "a label has at least one token"
        path = []
        for end, token in enumerate(label):
            node = nodes[label[:end]]
            path.append(edges.setdefault((node, token), len(edges)))
            inner = label[: end + 1]
            if end + 1 < len(label) and inner not in nodes:
                nodes[inner] = len(nodes)
                parents.append(node)
        paths.append(tuple(path))
    return Trie(
        tokens=tuple(prefix[-1] for prefix in nodes if prefix),
        parents=tuple(parents),
        edge_nodes=tuple(node for node, _ in edges),
        edge_tokens=tuple(token for _, token in edges),
        paths=tuple(paths),
    )


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """How well each class's label continues each row.

    Rows with fewer than C classes are filled with -inf and 1 token.
    """

    log_likelihood_BC: Tensor
    """Sum of the label tokens' log-probabilities, in nats, fp32."""
    num_tokens_BC: Tensor

    def split(self, num_rows: Sequence[int]) -> list[LabelScores]:
        """The scores of successive groups of rows."""
        parts = zip(
            self.log_likelihood_BC.split(list(num_rows)),
            self.num_tokens_BC.split(list(num_rows)),
            strict=True,
        )
        return [LabelScores(log_likelihood_BC=nats, num_tokens_BC=tokens) for nats, tokens in parts]

    def mean_per_token_BC(self) -> Tensor:
        """Log-likelihood per label token: a long label costs no more than a short one."""
        return self.log_likelihood_BC / self.num_tokens_BC


def gather_paths(edge_log_probs_E: Tensor, tries: list[Trie]) -> LabelScores:
    """Sum the edges of every row's every class; edges stand row after row."""
    width = max(len(trie.paths) for trie in tries)
    edge_ids, cells, counts = [], [], torch.ones(len(tries), width)
    first = 0
    for row, trie in enumerate(tries):
        for column, path in enumerate(trie.paths):
            edge_ids += [first + edge for edge in path]
            cells += [row * width + column] * len(path)
            counts[row, column] = len(path)
        first += len(trie.edge_tokens)
    device = edge_log_probs_E.device
    sums = edge_log_probs_E.new_zeros(len(tries) * width)
    sums = sums.index_add(
        0, torch.tensor(cells, device=device), edge_log_probs_E[torch.tensor(edge_ids, device=device)]
    )
    missing = torch.tensor([[c >= len(trie.paths) for c in range(width)] for trie in tries], device=device)
    return LabelScores(
        log_likelihood_BC=sums.view(len(tries), width).masked_fill(missing, float("-inf")),
        num_tokens_BC=counts.to(device),
    )
