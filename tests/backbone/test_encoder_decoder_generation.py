"""Texts of encoder-decoders are those of transformers' `generate`, and of full forwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.backbone.engine import make_backbone
from softcue.contracts import Batch, PromptBank
from softcue.errors import BackboneError
from tests.backbone.encoder_decoders import HIDDEN, START, PlainT5, Prefix, tiny_encoder_decoder, typed
from tests.backbone.test_generation import BEAMS, ENDS, GREEDY, to_end
from tests.cases import slow_but
from tests.tiny import batch_of, tiny_tokenizer

FAMILIES = ["t5", "mt5", "bart"]
ROWS = [[-1, -2, -3, 5, 6, 7, 8], [-1, 5, 6, -2, 9, -3], [5, 6, 7, 8, 9, 10, 11, -1, -2, -3]]


def own_model(family: str) -> PreTrainedModel:
    # transformers cannot generate with decoders deeper than their encoders.
    depths = {"num_decoder_layers": 2} if family != "bart" else {}
    model = tiny_encoder_decoder(family, dtype=torch.float32, **depths)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = ENDS
    model.generation_config.pad_token_id = 3
    model.generation_config.forced_bos_token_id = model.generation_config.forced_eos_token_id = None
    return model


@cache
def untouched(family: str) -> PreTrainedModel:
    return own_model(family)


@cache
def loaded(family: str) -> EncoderDecoderLM:
    lm = make_backbone(own_model(family), tiny_tokenizer(), name="tiny", engine="auto")
    assert isinstance(lm, EncoderDecoderLM)
    return lm


def soft_prompts(count: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, HIDDEN, generator=torch.Generator().manual_seed(seed))


def rows() -> Batch:
    return batch_of(ROWS, ((20,),))


def theirs(family: str, embeddings_PD: Tensor, **settings: Any) -> list[list[int]]:
    """Transformers' `generate`, each row alone, up to its end token and without the start token."""
    model, texts = untouched(family), []
    for row in ROWS:
        words = typed(model, model.get_encoder(), [max(token, 0) for token in row])
        vectors = [embeddings_PD[-1 - token] if token < 0 else words[at] for at, token in enumerate(row)]
        output = cast(Any, model).generate(
            inputs_embeds=torch.stack(vectors)[None],
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            do_sample=False,
            **{"max_new_tokens": GREEDY.max_new_tokens, **settings},
        )
        texts.append(to_end(output[0, 1:].tolist()))
    return texts


@pytest.mark.parametrize("family", slow_but(("t5", "bart"), FAMILIES))
def test_greedy_tokens_are_those_of_transformers(family: str) -> None:
    ours = loaded(family).generate(PromptBank(embeddings_TPD=soft_prompts()), rows(), GREEDY)
    assert ours == theirs(family, soft_prompts()[0])


@pytest.mark.parametrize("family", slow_but(("t5", "bart"), FAMILIES))
def test_beam_search_is_that_of_transformers(family: str) -> None:
    bank = PromptBank(embeddings_TPD=soft_prompts())
    for settings in BEAMS:
        ours = loaded(family).generate(bank, rows(), replace(GREEDY, **settings))
        assert ours == theirs(family, soft_prompts()[0], **settings), settings


def test_prompts_before_both_inputs_continue_as_full_forwards_do() -> None:
    bank = PromptBank(embeddings_TPD=soft_prompts(), decoder_embeddings_TPD=soft_prompts(seed=2))
    model = untouched("t5")

    def next_token(row: Sequence[int], tokens: Sequence[int]) -> int:
        words = typed(model, model.get_encoder(), [max(token, 0) for token in row])
        own, before = soft_prompts()[0], soft_prompts(seed=2)[0]
        vectors = [own[-1 - token] if token < 0 else words[at] for at, token in enumerate(row)]
        text = torch.cat([before, typed(model, model.get_decoder(), [START, *tokens])])
        with torch.no_grad():
            output = cast(nn.Module, model)(
                inputs_embeds=torch.stack(vectors)[None], decoder_inputs_embeds=text[None]
            )
        return int(output.logits[0, -1].argmax())

    assert loaded("t5").generate(bank, rows(), GREEDY) == [_greedily(next_token, row) for row in ROWS]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_keys_and_values_everywhere_continue_as_t5_written_out_does(num_beams: int) -> None:
    lm, plain = loaded("t5"), PlainT5(untouched("t5"))
    generator = torch.Generator().manual_seed(4)
    keys, values = (
        torch.randn(1, lm.spec.num_layers, lm.spec.num_kv_heads, 3, lm.spec.head_size, generator=generator)
        for _ in range(2)
    )
    prefixes: Mapping[str, Prefix] = {
        site: Prefix(keys[0, layers.start : layers.stop], values[0, layers.start : layers.stop])
        for site, layers in lm.spec.attentions.items()
    }
    texts = [[5, 6, 7, 8], [5, 6, 9], [12, 6, 9, 8, 5, 5]]
    batch = batch_of([[-1, -2, -3, *text] for text in texts], ((20,),))
    ours = lm.generate(
        PromptBank(keys_TLHPK=keys, values_TLHPK=values), batch, replace(GREEDY, num_beams=num_beams)
    )

    def score(row: Sequence[int], text: Sequence[int]) -> float:
        with torch.no_grad():
            return float(plain.score(PromptBank(), row, text, prefixes))

    def next_token(row: Sequence[int], tokens: Sequence[int]) -> int:
        return max(range(64), key=lambda token: score(row, [*tokens, token]))

    greedy = [_greedily(next_token, row, limit=4) for row in texts]
    if num_beams == 1:
        assert [text[:4] for text in ours] == greedy
        return
    for row, text, found in zip(texts, ours, greedy, strict=True):
        assert score(row, text) / len(text) >= score(row, found) / len(found) - 1e-4 or len(text) > 4


def _greedily(next_token: Any, row: Sequence[int], *, limit: int = GREEDY.max_new_tokens) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < limit and not (tokens and tokens[-1] in ENDS):
        tokens.append(next_token(row, tokens))
    return tokens


def test_rows_and_texts_have_positions_of_their_own() -> None:
    lm = loaded("bart")
    long = batch_of([[5] * 100], ((20,),))
    assert lm.generate(PromptBank(), long, replace(GREEDY, max_new_tokens=100))
    with pytest.raises(BackboneError, match=r"decoding.max_new_tokens=200 exceed the 128 positions"):
        lm.generate(PromptBank(), long, replace(GREEDY, max_new_tokens=200))
