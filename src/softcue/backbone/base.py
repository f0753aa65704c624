"""The interface of a frozen language model, whichever engine runs it.

Nothing here trains: the weights take no gradient, and the model stays in eval mode and in its own
dtype. Prompts, scores and losses are fp32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, cast

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone.attention import AttentionHook
from softcue.backbone.ensemble_continuation import EnsembleContinuation
from softcue.backbone.scoring import TargetScores, TargetStates, edge_log_probs, gather_paths
from softcue.backbone.search import Continuation, Ending, search
from softcue.contracts import BackboneSpec, Batch, Choices, Decoding, Ids, PaddedRows, PromptBank
from softcue.errors import BackboneError
from softcue.tokenizing import RowTokenizer

Engine = Literal["stream", "plain", "encoder_decoder"]
FP32_BYTES = 4


class Backbone(ABC):
    """A frozen causal language model that scores labels after rows with virtual tokens.

    It is no `nn.Module`, so that a module that holds it neither saves nor trains it.
    """

    engine: ClassVar[Engine]
    spec: BackboneSpec
    choice: str = ""
    """Which engine was chosen, and why, in one line."""
    chat: bool = False
    """Whether rows stand in the user's turn of the model's chat template."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return cast(torch.device, self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return cast(torch.dtype, self.model.dtype)

    def to(self, device: torch.device | str) -> Self:
        """The same object, its weights on `device`."""
        cast(nn.Module, self.model).to(device)
        return self

    @property
    @abstractmethod
    def takes_padded_rows(self) -> bool:
        """Whether the collator has to pad batches for this backbone."""

    def score(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetScores:
        """Log-likelihood of each row's choices after that row: one pass through the frozen model."""
        return self.read_scores(self.states(bank, batch, choices))

    def read_scores(self, states: TargetStates) -> TargetScores:
        """The log-likelihood of each choice, from the final states that predict its tokens."""
        edges_E = edge_log_probs(states.hidden_MD, states.tries, self.logits, vocab_size=self.spec.vocab_size)
        return gather_paths(edges_E, states.tries)

    @torch.no_grad()
    def generate(self, bank: PromptBank, batch: Batch, decoding: Decoding) -> list[list[int]]:
        """The tokens that follow each row, with the end token if it came; raises as `expect_room`."""
        self.expect_room(decoding, longest=max(map(len, batch.rows)), num_rows=len(batch))
        ending = Ending(tokens=self.end_tokens, stop=decoding.stop, decode=self.decode)
        rows: list[int] = batch.row_B.tolist()
        return search(
            self._voted_continuation(bank, batch, max_new_tokens=decoding.max_new_tokens),
            decoding,
            rows=rows,
            ending=ending,
        )

    def _voted_continuation(self, bank: PromptBank, batch: Batch, *, max_new_tokens: int) -> Continuation:
        if bank.vote is None:
            return self.continuation(bank, batch, max_new_tokens=max_new_tokens)
        copies = batch.repeat_for_members(bank.num_prompts)
        members = self.continuation(bank, copies, max_new_tokens=max_new_tokens)
        return EnsembleContinuation(members, count=bank.num_prompts)

    def for_rows(self, bank: PromptBank, batch: Batch) -> tuple[PromptBank, Batch]:
        """Where rows make their own prompts from a bank's, a prompt for each row; else both as they are."""
        if bank.row_rule is None:
            return bank, batch
        own, rows = self.own_prompts(bank, batch.rows, batch.row_B)
        own_batch = replace(
            batch,
            rows=rows,
            prompt_B=torch.arange(len(batch), device=batch.prompt_B.device),
            padded=None if batch.padded is None else PaddedRows.of(rows, width=batch.padded.width),
        )
        return own, own_batch

    def own_prompts(
        self, bank: PromptBank, rows: Sequence[Ids], row_B: Tensor | None = None
    ) -> tuple[PromptBank, tuple[Ids, ...]]:
        """The prompts that rows make of a bank, one each, and the rows that use them; or both as they are."""
        if bank.row_rule is None:
            return bank, tuple(rows)
        words = [[token for token in row if token >= 0] for row in rows]
        flat_N = torch.tensor([token for row in words for token in row], dtype=torch.long)
        flat_ND = self.spec.embed(flat_N).float()
        number_B = torch.arange(len(rows), device=flat_ND.device) if row_B is None else row_B
        own = bank.of_rows(flat_ND.split([len(row) for row in words]), number_B)
        (length,) = set(bank.num_virtual_tokens)
        count = bank.row_rule.num_words
        return own, tuple(with_virtual_words(row, first=length, count=count) for row in rows)

    def expect_room(self, decoding: Decoding, *, longest: int, num_rows: int) -> None:
        """Refuse texts that the model could not finish after rows of up to `longest` tokens.

        Raises:
            BackboneError: rows and new tokens are more than the model's positions, or the keys, values and
                logits of all beams more than the memory that is free.
        """
        length = self.length_of(longest, decoding.max_new_tokens)
        if length > self.spec.max_positions:
            raise BackboneError(
                f"a row of {longest} tokens and decoding.max_new_tokens={decoding.max_new_tokens} exceed the "
                f"{self.spec.max_positions} positions of {self.spec.name}. Generate fewer tokens, or cut the "
                "rows with data.max_length."
            )
        numbers = length * self.spec.key_value_width + self.spec.vocab_size
        needed = num_rows * decoding.num_beams * numbers * FP32_BYTES
        if needed > (free := free_memory(self.device)):
            raise BackboneError(
                f"decoding.num_beams={decoding.num_beams} and {num_rows} rows of {length} tokens take "
                f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free on {self.device}. Use fewer "
                "beams or smaller batches."
            )

    def length_of(self, longest: int, new: int) -> int:
        """Positions of a row of `longest` tokens and a text of `new` ones."""
        return longest + new

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a text: the tokenizer's, and those of the model's generation settings."""
        settings = self.model.generation_config
        own = None if settings is None else settings.eos_token_id
        listed = own if isinstance(own, list) else [own]
        return frozenset(token for token in (*listed, self.tokenizer.eos_token_id) if token is not None)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, without special ones."""
        return cast(str, self.tokenizer.decode(list(tokens), skip_special_tokens=True))

    @abstractmethod
    def continuation(self, bank: PromptBank, batch: Batch, *, max_new_tokens: int) -> Continuation:
        """Run the rows once, ready to be continued."""

    @abstractmethod
    def states(self, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        """Final hidden states at the positions that predict the tokens of each row's choices."""

    @abstractmethod
    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Next-token logits of final hidden states, in fp32: [M, V]."""

    @abstractmethod
    def key_values(self, embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [L, H, P, K] of embeddings in every layer, run from position 0."""

    @abstractmethod
    def states_at(self, embeddings_PD: Tensor, layer: int) -> Tensor:
        """The states [P, D], fp32, of embeddings where they enter a layer, run from position 0."""

    @abstractmethod
    def run_with_hook(self, row: Ids, bank: PromptBank, hook: AttentionHook) -> None:
        """Run one row alone, with a bank of one prompt, and call `hook` with the attention of each layer.

        Layers below the one that the prompt enters are left out. Keys are those of the prompt's prefix, if it
        has one, then those of the row's tokens.
        """

    def in_row(self, bank: PromptBank) -> PromptBank:
        """The part of a prompt that `run_with_hook` shows: in most models all of it.

        Raises:
            BackboneError: no part of it.
        """
        return bank

    @abstractmethod
    def checkpoint_gradients(self) -> None:
        """Keep one activation per layer for the backward pass and recompute the others there."""

    @abstractmethod
    def limit_cache(self, budget_gb: float) -> None:
        """Keep at most this many gigabytes (10^9 bytes) of results that do not change between steps."""


def with_virtual_words(row: Ids, *, first: int, count: int) -> Ids:
    """A row whose first `count` words are the virtual tokens from number `first` on."""
    numbers = iter(range(first, first + count))
    return tuple(-1 - next(numbers, -1 - token) if token >= 0 else token for token in row)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def embedding_of(model: PreTrainedModel, *, scale: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Ids [N] to embeddings [N, D], `scale` times the output of the model's own embedding module."""
    table = model.get_input_embeddings()

    def embed(ids_N: Tensor) -> Tensor:
        with torch.no_grad():
            vectors_ND = cast(Tensor, table(ids_N.to(model.device)))
        return vectors_ND if scale == 1.0 else vectors_ND * scale

    return embed


def row_prompts(batch: Batch, bank: PromptBank) -> list[int]:
    """The prompt of the bank that each row uses; all rows use the only prompt of a bank of one."""
    return [0] * len(batch) if bank.num_prompts == 1 else cast(list[int], batch.prompt_B.tolist())


def check_prefixes(rows: Sequence[Ids], prefix_lengths: Sequence[int]) -> None:
    """Assert that rows with key-value prompts begin with their virtual tokens and have no others."""
    for row, length in zip(rows, prefix_lengths, strict=True):
        assert row[:length] == tuple(-1 - k for k in range(length))
        assert not length or min(row[length:]) >= 0


def checkpoint_layers(
    model: PreTrainedModel,
    context_fn: Callable[
        [], tuple[AbstractContextManager[None], AbstractContextManager[None]]
    ] = noop_context_fn,
) -> None:
    """Recompute each layer in the backward pass; `context_fn` gives the contexts of both runs."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.forward = partial(_recompute, module.forward, context_fn)


def _recompute(
    forward: Callable[..., object],
    context_fn: Callable[[], tuple[Any, Any]],
    *arguments: object,
    **named: object,
) -> object:
    # A layer that runs twice would add its keys to a cache twice.
    if not torch.is_grad_enabled() or named.get("past_key_values") is not None:
        return forward(*arguments, **named)
    return checkpoint(partial(forward, **named), *arguments, use_reentrant=False, context_fn=context_fn)


@dataclass(frozen=True, kw_only=True)
class KeyValueSizes:
    """The shape of the keys and values that a model keeps of one token; zeros if it keeps none."""

    num_layers: int = 0
    num_heads: int = 0
    key_size: int = 0
    value_size: int = 0


def make_spec(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    name: str,
    embed: Callable[[Tensor], Tensor],
    key_values: Callable[[Tensor], tuple[Tensor, Tensor]],
    states: Callable[[Tensor, int], Tensor],
    sizes: KeyValueSizes,
    max_positions: int,
    prefix_refusal: str | None = None,
    **others: Any,
) -> BackboneSpec:
    """The facts about a model that soft-prompt methods use."""
    rows = RowTokenizer(tokenizer)
    vocab_size, width = cast(Tensor, model.get_input_embeddings().weight).shape
    return BackboneSpec(
        name=name,
        hidden_size=width,
        num_layers=sizes.num_layers,
        num_kv_heads=sizes.num_heads,
        head_size=sizes.key_size,
        value_size=sizes.value_size,
        max_positions=max_positions,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        vocab_size=vocab_size,
        embed=embed,
        tokenize=lambda text: rows.text(text).ids,
        key_values=key_values,
        states=states,
        prefix_refusal=prefix_refusal,
        **others,
    )
