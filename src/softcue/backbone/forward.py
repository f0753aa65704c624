"""How a batch runs through the frozen model: heads once, tails unpadded, logits at labels only.

The one way a batch runs, in training and in scoring. It equals the plain forward (every row in
full, every logit), gradients included, whatever the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softcue.backbone.frozen_lm import FrozenLM
from softcue.backbone.scoring import LabelScores, Trie, gather_paths, trie_of
from softcue.backbone.stream import RowPlan, common_beginning, lay_out
from softcue.contracts import Batch, Choices, PromptBank

LOGITS_AT_ONCE = 2**24
"""Logits held at a time (64 MB in fp32): memory does not grow with positions times vocabulary."""


def score_classes(lm: FrozenLM, bank: PromptBank, batch: Batch) -> LabelScores:
    """Log-likelihood of every class's label after every row."""
    return score_labels(lm, bank, batch, batch.choices)


def score_targets(lm: FrozenLM, bank: PromptBank, batch: Batch) -> LabelScores:
    """Log-likelihood of each row's own label, as a single class [B, 1]."""
    return score_labels(lm, bank, batch, own_labels(batch))


def score_labels(lm: FrozenLM, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> LabelScores:
    """Log-likelihood of each row's choices after that row: one pass through the frozen model."""
    return read_scores(lm, run_labels(lm, bank, batch, choices))


@dataclass(frozen=True, kw_only=True)
class LabelStates:
    """Final hidden states at the M places that predict label tokens, and whose they are.

    Row after row: the end of its context, then the nodes of its choices' trie.
    """

    hidden_MD: Tensor
    tries: list[Trie]

    @property
    def num_places(self) -> list[int]:
        """How many of the M places each row has."""
        return [len(trie.tokens) + 1 for trie in self.tries]


def own_labels(batch: Batch) -> list[Choices]:
    """Each row's right label, as its only choice."""
    targets = batch.target_B.tolist()
    assert min(targets) >= 0, "an unlabelled row has no loss"
    return [(choices[target],) for choices, target in zip(batch.choices, targets, strict=True)]


def run_labels(lm: FrozenLM, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> LabelStates:
    """Run each row and its choices: one pass through the frozen model."""
    rows = plan_rows(batch, bank, choices)
    stream = lay_out(rows, lm.surroundings(bank))
    contexts = [row.static_ids for row in rows]
    static = lm.contexts.side_by_side(contexts) if any(contexts) else None
    return LabelStates(hidden_MD=lm.hidden(stream, bank, static), tries=[row.trie for row in rows])


def read_scores(lm: FrozenLM, states: LabelStates) -> LabelScores:
    """The log-likelihoods that hidden states give the choices they were run for."""
    return gather_paths(_edge_log_probs(lm, states.hidden_MD, states.tries), states.tries)


def plan_rows(batch: Batch, bank: PromptBank, choices: Sequence[Choices]) -> list[RowPlan]:
    """What to run of each row: after a static context worth keeping, if it begins with one."""
    rows = rows_of(batch, bank)
    # Words that all rows share are a head, run once a step: less than fetching them for every row.
    num_shared = len(common_beginning(rows))
    return [
        RowPlan(
            ids=ids,
            prompt=prompt,
            trie=trie_of(row_choices),
            num_static=leading if (leading := _num_leading_words(ids)) > num_shared else 0,
        )
        for ids, prompt, row_choices in zip(rows, prompts_of(batch, bank), choices, strict=True)
    ]


def rows_of(batch: Batch, bank: PromptBank) -> list[tuple[int, ...]]:
    """The batch's rows without their pads; keys and values already stand for leading virtual tokens."""
    rows = [
        tuple(ids[-count:]) if count else ()
        for ids, count in zip(batch.ids_BT.tolist(), batch.real_BT.sum(1).tolist(), strict=True)
    ]
    prefix_lengths = [bank.prefix_lengths[prompt] for prompt in prompts_of(batch, bank)]
    if not any(prefix_lengths):
        return rows
    without = [row[length:] for row, length in zip(rows, prefix_lengths, strict=True)]
    for row, length, rest in zip(rows, prefix_lengths, without, strict=True):
        assert row[:length] == tuple(-1 - k for k in range(length))
        assert min(rest) >= 0
    return without


def prompts_of(batch: Batch, bank: PromptBank) -> list[int]:
    """Which prompt of the bank each row wears; a bank of one prompt is worn by all."""
    return [0] * len(batch) if bank.num_prompts == 1 else batch.prompt_B.tolist()


def _num_leading_words(ids: tuple[int, ...]) -> int:
    """Words ahead of the first virtual token; 0 in a row that has none and so trains nothing."""
    return next((place for place, token in enumerate(ids) if token < 0), 0)


def _edge_log_probs(lm: FrozenLM, hidden_MD: Tensor, tries: Sequence[Trie]) -> Tensor:
    """Log-probability of every trie edge, row after row: [E]."""
    nodes: list[int] = []
    tokens: list[int] = []
    first = 0
    for trie in tries:
        nodes += [first + node for node in trie.edge_nodes]
        tokens += trie.edge_tokens
        first += len(trie.tokens) + 1
    node_E = torch.tensor(nodes, device=hidden_MD.device)
    token_E = torch.tensor(tokens, device=hidden_MD.device)

    def some(hidden_mD: Tensor, node_e: Tensor, token_e: Tensor) -> Tensor:
        return lm.logits(hidden_mD).log_softmax(dim=-1)[node_e, token_e]

    at_once = max(1, LOGITS_AT_ONCE // lm.spec.vocab_size)
    if len(hidden_MD) <= at_once:
        return some(hidden_MD, node_E, token_E)
    parts = []
    order_E = node_E.argsort(stable=True)
    for start in range(0, len(hidden_MD), at_once):
        of_part = order_E[(node_E[order_E] >= start) & (node_E[order_E] < start + at_once)]
        arguments = hidden_MD[start : start + at_once], node_E[of_part] - start, token_E[of_part]
        # Recomputed in the backward pass, or every chunk's logits would be kept until then.
        recompute = torch.is_grad_enabled() and hidden_MD.requires_grad
        parts.append(checkpoint(some, *arguments, use_reentrant=False) if recompute else some(*arguments))
    return torch.cat(parts)[order_E.argsort()]
