"""Random models small enough for unit tests, and the plain forward that they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions, CausalLMOutputWithPast

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, Choices, PaddedRows, PromptBank

FAMILIES = ("bloom", "llama", "gpt2")
VOCABULARY, HIDDEN, LAYERS, HEADS = 50, 32, 3, 4
FAMILY_SETTINGS: dict[str, dict[str, int]] = {
    "bloom": {},
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 128},
    "gpt2": {"n_positions": 128},
}


def tiny_model(family: str) -> PreTrainedModel:
    """A random model of a family whose weights are large enough for differences to show."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            family,
            vocab_size=VOCABULARY,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
            **FAMILY_SETTINGS[family],
        )
    )
    assert isinstance(model, PreTrainedModel)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
    cast(nn.Module, model).eval()
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the words w0 … w49 with ids 0 … 49."""
    words = {f"w{index}": index for index in range(VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def tiny_lm(family: str) -> StreamLM:
    """A tiny frozen model on the stream engine."""
    return StreamLM(tiny_model(family), tiny_tokenizer(), name=f"tiny_{family}")


def score_classes(lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
    """Log-likelihood of every class's label after every row."""
    return lm.score(bank, batch, batch.choices)


def score_targets(lm: Backbone, bank: PromptBank, batch: Batch) -> TargetScores:
    """Log-likelihood of each row's own label, as a single class [B, 1]."""
    return lm.score(bank, batch, batch.target_choices)


def batch_of(
    rows: Sequence[Sequence[int]],
    choices: Choices,
    *,
    prompts: Sequence[int] | None = None,
    targets: Sequence[int] | None = None,
    width: int = 0,
) -> Batch:
    """A batch of rows, also left-padded to the longest or to `width`."""
    ids = tuple(tuple(row) for row in rows)
    return Batch(
        rows=ids,
        padded=PaddedRows.of(ids, width=max([width, *map(len, ids)])),
        choices=(choices,) * len(rows),
        target_B=torch.tensor(targets if targets is not None else [0] * len(rows)),
        prompt_B=torch.tensor(prompts if prompts is not None else [0] * len(rows)),
        row_B=torch.arange(len(rows)),
    )


def plain_log_likelihood(
    model: PreTrainedModel,
    bank: PromptBank,
    rows: Sequence[Sequence[int]],
    choices: Choices,
    prompts: Sequence[int] | None = None,
) -> Tensor:
    """The oracle: every row and class alone, in full, through the model's own forward. [B, C]."""
    prompts = prompts if prompts is not None else [0] * len(rows)
    return torch.stack(
        [
            torch.stack([_plain(model, bank, list(row), list(label), prompt) for label in choices])
            for row, prompt in zip(rows, prompts, strict=True)
        ]
    )


def plain_hidden(
    model: PreTrainedModel, bank: PromptBank, row: Sequence[int], label: Sequence[int], prompt: int
) -> Tensor:
    """The oracle's final hidden states at the positions that predict a label: [label tokens, D]."""
    states = _plain_output(model, bank, list(row), list(label), prompt).hidden_states
    assert states is not None
    states_TD = states[-1][0]
    return states_TD[-len(label) - 1 : -1]


def _plain(model: PreTrainedModel, bank: PromptBank, row: list[int], label: list[int], prompt: int) -> Tensor:
    logits = _plain_output(model, bank, row, label, prompt).logits
    assert logits is not None
    log_probs_TV = logits[0].float().log_softmax(dim=-1)
    return log_probs_TV[-len(label) - 1 : -1].gather(1, torch.tensor(label)[:, None]).sum()


def _plain_output(
    model: PreTrainedModel, bank: PromptBank, row: list[int], label: list[int], prompt: int
) -> CausalLMOutputWithPast:
    """One row in full; a prompt's keys and values are given as a cache."""
    table = model.get_input_embeddings()
    assert isinstance(table, nn.Embedding)
    table_VD, cache = table.weight.detach(), DynamicCache()
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        row = [token for token in row if token >= 0]
        for layer, (keys, values) in enumerate(
            zip(bank.keys_TLHPK[prompt], bank.values_TLHPK[prompt], strict=True)
        ):
            length = bank.prefix_lengths[prompt]
            cache.update(keys[None, :, :length], values[None, :, :length], layer)
    embedded = [
        table_VD[token]
        if bank.embeddings_TPD is None or token >= 0
        else bank.embeddings_TPD[prompt, -1 - token]
        for token in row + label
    ]
    output = cast(nn.Module, model)(
        inputs_embeds=torch.stack(embedded)[None],
        attention_mask=torch.ones(1, bank.prefix_lengths[prompt] + len(embedded), dtype=torch.long),
        past_key_values=cache,
        output_hidden_states=True,
    )
    assert isinstance(output, CausalLMOutputWithPast | CausalLMOutputWithCrossAttentions)
    return cast(CausalLMOutputWithPast, output)
