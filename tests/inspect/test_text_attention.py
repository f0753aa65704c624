"""Attention that text gives a prompt, against the model's own eager attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from softcue.backbone.base import Backbone
from softcue.backbone.plain_lm import PlainLM
from softcue.contracts import PromptBank
from softcue.inspect.text_attention import TextView, watch_text
from tests.tiny import FAMILIES, HEADS, HIDDEN, LAYERS, tiny_lm, tiny_model, tiny_tokenizer

PREFIX = 3
TEXTS = ((7, 8, 9, 10, 11), (12,), (7, 8, 20, 21, 22, 23, 24, 25, 26))


def prefix_bank(family: str) -> PromptBank:
    generator = torch.Generator().manual_seed(1)
    shape = (1, LAYERS, 2 if family == "llama" else HEADS, PREFIX, HIDDEN // HEADS)
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    return PromptBank(keys_TLHPK=keys, values_TLHPK=values)


def embedding_bank(count: int) -> PromptBank:
    generator = torch.Generator().manual_seed(2)
    return PromptBank(embeddings_TPD=torch.randn(1, count, HIDDEN, generator=generator))


def eager(family: str, bank: PromptBank, row: Sequence[int]) -> tuple[Tensor, DynamicCache]:
    """The oracle: probabilities averaged over heads [L, T, keys], and the cached keys and values."""
    model, cache = tiny_model(family), DynamicCache()
    model.set_attn_implementation("eager")
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        for layer, both in enumerate(zip(bank.keys_TLHPK[0], bank.values_TLHPK[0], strict=True)):
            cache.update(both[0][None], both[1][None], layer)
    table_VD = cast(nn.Embedding, model.get_input_embeddings()).weight
    embedded = [
        table_VD[token] if bank.embeddings_TPD is None or token >= 0 else bank.embeddings_TPD[0, -1 - token]
        for token in row
    ]
    with torch.no_grad():
        output = cast(nn.Module, model)(
            inputs_embeds=torch.stack(embedded)[None], past_key_values=cache, output_attentions=True
        )
    return torch.stack([layer[0].mean(dim=0) for layer in output.attentions]), cache


ENGINES = pytest.mark.parametrize("engine", ["stream", "plain"])


def on_engine(family: str, engine: str) -> Backbone:
    return (
        tiny_lm(family) if engine == "stream" else PlainLM(tiny_model(family), tiny_tokenizer(), name=family)
    )


def watched_prefix(family: str, engine: str) -> TextView:
    virtual = tuple(-1 - k for k in range(PREFIX))
    return watch_text(on_engine(family, engine), prefix_bank(family), [virtual + text for text in TEXTS])


@ENGINES
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_to_a_prefix_is_the_eager_models_mean_over_all_rows_tokens(
    family: str, engine: str
) -> None:
    given = [eager(family, prefix_bank(family), text)[0][:, :, :PREFIX] for text in TEXTS]
    expected_LP = torch.cat(given, dim=1).mean(dim=1)

    attention_LP = watched_prefix(family, engine).attention_LP

    torch.testing.assert_close(attention_LP, expected_LP, rtol=0, atol=1e-5)
    assert (attention_LP.sum(dim=1) < 1).all()
    assert attention_LP.std() > 0.01, "positions differ"


def text_norms(cached_1HTK: Tensor) -> Tensor:
    """One norm for each token after the prefix, over all heads: [T]."""
    return cached_1HTK[0, :, PREFIX:].square().sum(dim=(0, 2)).sqrt()


@ENGINES
@pytest.mark.parametrize("family", FAMILIES)
def test_norms_are_those_of_the_texts_own_keys_and_values(family: str, engine: str) -> None:
    layers = [eager(family, prefix_bank(family), text)[1].layers for text in TEXTS]
    norms = {
        name: torch.cat([torch.stack([text_norms(getattr(la, name)) for la in of]) for of in layers], dim=1)
        for name in ("keys", "values")
    }

    view = watched_prefix(family, engine)

    torch.testing.assert_close(view.key_norm_LN, norms["keys"])
    torch.testing.assert_close(view.value_norm_LN, norms["values"])


@ENGINES
@pytest.mark.parametrize("family", FAMILIES)
def test_only_text_after_a_virtual_token_counts(family: str, engine: str) -> None:
    rows = [(-1, 7, 8, -2, 9), (-1, 10, -2, 11, 12, 13)]
    bank = embedding_bank(2)
    first = [eager(family, bank, row)[0] for row in rows]
    to_first = torch.cat([first[0][:, [1, 2, 4], 0], first[1][:, [1, 3, 4, 5], 0]], dim=1)
    to_second = torch.cat([first[0][:, [4], 3], first[1][:, [3, 4, 5], 2]], dim=1)

    attention_LP = watch_text(on_engine(family, engine), bank, rows).attention_LP

    expected_LP = torch.stack([to_first.mean(dim=1), to_second.mean(dim=1)], dim=1)
    torch.testing.assert_close(attention_LP, expected_LP, rtol=0, atol=1e-5)


def test_a_suffix_that_no_text_follows_has_no_attention() -> None:
    view = watch_text(tiny_lm("llama"), embedding_bank(2), [(7, 8, -1, -2)])
    assert view.attention_LP.isnan().all()
