"""What everything above asks of a frozen language model, whichever engine runs it.

Nothing here trains: the weights take no gradient, the model stays in eval mode and in its own
dtype. Prompts, scores and losses are fp32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from softcue.backbone.attention import AttentionHook
from softcue.backbone.scoring import TargetScores, TargetStates, edge_log_probs, gather_paths
from softcue.contracts import BackboneSpec, Batch, Choices, Ids, PromptBank
from softcue.tokenizing import RowTokenizer

Engine = Literal["stream", "plain"]


class Backbone(ABC):
    """A frozen causal language model that scores what may follow rows with virtual tokens.

    Deliberately no `nn.Module`: what holds it neither saves nor trains it.
    """

    engine: ClassVar[Engine]
    spec: BackboneSpec

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return cast(torch.dtype, self.model.dtype)

    def to(self, device: torch.device | str) -> Self:
        """The same object, its weights on `device`."""
        cast(nn.Module, self.model).to(device)
        return self

    @property
    @abstractmethod
    def takes_padded_rows(self) -> bool:
        """Whether batches come with their rows padded, by the collator."""

    def score(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetScores:
        """Log-likelihood of each row's choices after that row: one pass through the frozen model."""
        return self.read_scores(self.states(bank, batch, choices))

    def read_scores(self, states: TargetStates) -> TargetScores:
        """The log-likelihoods that final states give the choices they were run for."""
        edges_E = edge_log_probs(states.hidden_MD, states.tries, self.logits, vocab_size=self.spec.vocab_size)
        return gather_paths(edges_E, states.tries)

    @abstractmethod
    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        """Final hidden states wherever a token of each row's choices is predicted."""

    @abstractmethod
    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Next-token logits of final hidden states, in fp32: [M, V]."""

    @abstractmethod
    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [L, H, P, K] that embeddings leave in every layer, run from position 0."""

    @abstractmethod
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        """Run one row alone, in a bank of one prompt, and show `hook` the attention of every layer.

        Keys are those of the prompt's prefix, if it has one, then those of the row's tokens.
        """

    @abstractmethod
    def checkpoint_gradients(self) -> None:
        """Keep one activation a layer for the backward pass and recompute the rest there."""

    @abstractmethod
    def limit_cache(self, budget_gb: float) -> None:
        """Keep at most this many gigabytes (10^9 bytes) of what does not change between steps."""


def embedding_of(model: PreTrainedModel, *, scale: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Ids [N] to embeddings [N, D], `scale` times what the model's own embedding module gives."""
    table = model.get_input_embeddings()

    def embed(ids_N: Tensor) -> Tensor:
        with torch.no_grad():
            vectors_ND = cast(Tensor, table(ids_N.to(model.device)))
        return vectors_ND if scale == 1.0 else vectors_ND * scale

    return embed


def prompts_of(batch: Batch, bank: PromptBank) -> list[int]:
    """Which prompt of the bank each row uses; a bank of one prompt serves all rows."""
    return [0] * len(batch) if bank.num_prompts == 1 else cast(list[int], batch.prompt_B.tolist())


def check_prefixes(rows: Sequence[Ids], prefix_lengths: Sequence[int]) -> None:
    """A row whose prompt is keys and values begins with its virtual tokens and has no others."""
    for row, length in zip(rows, prefix_lengths, strict=True):
        assert row[:length] == tuple(-1 - k for k in range(length))
        assert not length or min(row[length:]) >= 0


def describe(
    model: PreTrainedModel,
    *,
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    embed: Callable[[Tensor], Tensor],
    key_values: Callable[[Tensor], tuple[Tensor, Tensor]],
    num_layers: int,
    num_kv_heads: int,
    head_size: int,
    value_size: int,
    prefix_refusal: str | None = None,
    max_positions: int | None = None,
) -> BackboneSpec:
    """What a soft-prompt method may know of a model; sizes of keys and values as a forward left them."""
    config = model.config.get_text_config(decoder=True)
    table = model.get_input_embeddings()
    words = RowTokenizer(tokenizer)
    (vocab_size, width) = cast(Tensor, table.weight).shape
    return BackboneSpec(
        name=name,
        hidden_size=width,
        num_layers=num_layers,
        num_kv_heads=num_kv_heads,
        head_size=head_size,
        value_size=value_size,
        max_positions=longest_row(config) if max_positions is None else max_positions,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=vocab_size,
        embed=embed,
        tokenize=lambda text: words.text(text).ids,
        key_values=key_values,
        prefix_refusal=prefix_refusal,
    )


def longest_row(config: PreTrainedConfig) -> int:
    """Positions that the model can tell apart; ALiBi models name their training length seq_length."""
    names = ("max_position_embeddings", "n_positions", "seq_length")
    limits = [getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)]
    return next(iter(limits), 2048)
