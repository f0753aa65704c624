"""Classes as a trie of their label tokens, and their likelihoods from final hidden states.

In the stream engine a row's context runs once, and label tokens that classes share run once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softcue.contracts import Choices, Ids

LOGITS_AT_ONCE = 2**24
"""Logits held at a time (64 MB in fp32), so that memory does not grow with positions times vocabulary."""

SMALLEST_COMPLEMENT = 1e-6
"""The least probability of all other tokens together: its logarithm stays finite in fp32."""

NO_CHOICE: Choices = ((0,),)
"""For rows that only have to run: their end predicts token 0, which is never run."""


@dataclass(frozen=True, kw_only=True)
class Trie:
    """The label tokens of C classes. Node 0 is the end of the context.

    Only nodes with a successor are kept: the last token of a label is predicted and never run.
    """

    tokens: tuple[int, ...]
    """The token of nodes 1, 2, …; a parent comes before its children."""
    parents: tuple[int, ...]
    """The parent of nodes 1, 2, …"""
    edge_nodes: tuple[int, ...]
    """The node that predicts each edge's token."""
    edge_tokens: tuple[int, ...]
    """The token that each edge predicts."""
    paths: tuple[tuple[int, ...], ...]
    """For each class, the edges of its label."""

    @cached_property
    def node_paths(self) -> tuple[Ids, ...]:
        """The tokens that lead from the context's end to nodes 0, 1, …"""
        paths: list[Ids] = [()]
        for token, parent in zip(self.tokens, self.parents, strict=True):
            paths.append((*paths[parent], token))
        return tuple(paths)

    @cached_property
    def leaves(self) -> tuple[Ids, ...]:
        """The paths that are not the beginning of another: running these runs every node."""
        inner = {path[:-1] for path in self.node_paths if path}
        return tuple(path for path in self.node_paths if path not in inner)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many tokens after the context nodes 1, 2, … come, counted from 0."""
        return tuple(len(path) - 1 for path in self.node_paths[1:])

    @property
    def branches(self) -> bool:
        """Whether the nodes are more than a single path."""
        return self.parents != tuple(range(len(self.parents)))

    @cached_property
    def ancestors(self) -> Tensor:
        """Which of nodes 1, 2, … each of them sees, itself included: bool [nodes, nodes]."""
        sees = torch.eye(len(self.tokens), dtype=torch.bool)
        for child, parent in enumerate(self.parents):
            if parent > 0:
                sees[child] |= sees[parent - 1]
        return sees


@lru_cache(maxsize=4096)
def trie_of(choices: Choices) -> Trie:
    """The trie of some classes' label tokens."""
    nodes: dict[Ids, int] = {(): 0}
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
class TargetStates:
    """Final hidden states at the M positions that predict target tokens, and the trie of each row.

    Row by row: the end of its context, then the nodes of its choices' trie.
    """

    hidden_MD: Tensor
    tries: Sequence[Trie]


@dataclass(frozen=True, kw_only=True)
class TargetScores:
    """The likelihood of each choice after its row.

    Rows with fewer than C classes are filled up with -inf and 1 token.
    """

    log_likelihood_BC: Tensor
    """Sum of the label tokens' log-probabilities, in nats, fp32."""
    num_tokens_BC: Tensor
    log_unlikelihood_BC: Tensor | None = None
    """Sum over the label's tokens of log(1 - probability), in nats; 0 where a row has no such class."""

    def split(self, num_rows: Sequence[int]) -> list[TargetScores]:
        """The scores of successive groups of rows."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        parts = zip(*(value.split(list(num_rows)) for value in fields.values()), strict=True)
        return [TargetScores(**dict(zip(fields, part, strict=True))) for part in parts]

    def mean_per_token_BC(self) -> Tensor:
        """Log-likelihood per label token, so that long labels are not at a disadvantage."""
        return self.log_likelihood_BC / self.num_tokens_BC


def gather_paths(edge_log_probs_E: Tensor, tries: Sequence[Trie]) -> TargetScores:
    """Sum the edges of each class of each row; edges are in order of rows."""
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
    cell_N, edge_N = torch.tensor(cells, device=device), torch.tensor(edge_ids, device=device)

    def summed_BC(numbers_E: Tensor) -> Tensor:
        sums = numbers_E.new_zeros(len(tries) * width).index_add(0, cell_N, numbers_E[edge_N])
        return sums.view(len(tries), width)

    missing = torch.tensor([[c >= len(trie.paths) for c in range(width)] for trie in tries], device=device)
    complement_E = (-edge_log_probs_E.clamp(max=-SMALLEST_COMPLEMENT).expm1()).log()
    return TargetScores(
        log_likelihood_BC=summed_BC(edge_log_probs_E).masked_fill(missing, float("-inf")),
        num_tokens_BC=counts.to(device),
        log_unlikelihood_BC=summed_BC(complement_E),
    )


def edge_log_probs(
    states_MX: Tensor, tries: Sequence[Trie], to_logits: Callable[[Tensor], Tensor], *, vocab_size: int
) -> Tensor:
    """Log-probability of every trie edge, row by row: [E].

    `states_MX` are the states at the tries' nodes, from which `to_logits` makes logits [M, V].
    """
    nodes: list[int] = []
    tokens: list[int] = []
    first = 0
    for trie in tries:
        nodes += [first + node for node in trie.edge_nodes]
        tokens += trie.edge_tokens
        first += len(trie.tokens) + 1
    node_E = torch.tensor(nodes, device=states_MX.device)
    token_E = torch.tensor(tokens, device=states_MX.device)

    def chunk(states_mX: Tensor, node_e: Tensor, token_e: Tensor) -> Tensor:
        return to_logits(states_mX).log_softmax(dim=-1)[node_e, token_e]

    at_once = max(1, LOGITS_AT_ONCE // vocab_size)
    if len(states_MX) <= at_once:
        return chunk(states_MX, node_E, token_E)
    parts = []
    order_E = node_E.argsort(stable=True)
    for start in range(0, len(states_MX), at_once):
        own_e = order_E[(node_E[order_E] >= start) & (node_E[order_E] < start + at_once)]
        arguments = states_MX[start : start + at_once], node_E[own_e] - start, token_E[own_e]
        # Recomputed in the backward pass, which would otherwise keep the logits of all chunks until then.
        recompute = torch.is_grad_enabled() and states_MX.requires_grad
        parts.append(checkpoint(chunk, *arguments, use_reentrant=False) if recompute else chunk(*arguments))
    return torch.cat(parts)[order_E.argsort()]
