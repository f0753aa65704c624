"""Generated tokens are those of transformers' `generate`, on both engines and for every place of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, cast

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from softcue.backbone.base import Backbone
from softcue.backbone.engine import make_backbone
from softcue.backbone.families import VERIFIED
from softcue.contracts import Batch, Decoding, PromptBank
from softcue.errors import BackboneError, ConfigError
from tests.backbone.zoo import HIDDEN, tiny, typed_embedding
from tests.tiny import batch_of, tiny_tokenizer

QUICK = ("bloom", "llama", "gpt2")
FAMILIES = [*QUICK, *(pytest.param(family, marks=pytest.mark.slow) for family in ("qwen2", "gemma"))]
OTHERS = sorted({*VERIFIED, "cohere", "granite", "phi", "starcoder2"} - {*QUICK, "qwen2"})
ENDS = [2, 17, 23, 40, 58]
"""End tokens, so many that rows end at different lengths."""
GREEDY = Decoding(
    max_new_tokens=12,
    num_beams=1,
    length_penalty=1.0,
    early_stopping=False,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=0,
    stop=(),
)
LAYOUTS = {
    "prefix": [[-1, -2, -3, 5, 6, 7, 8], [-1, -2, -3, 5, 6, 9], [-1, -2, -3, 5, 6, 7, 8, 9, 10, 11]],
    "suffix": [[5, 6, 7, 8, -1, -2, -3], [12, 6, 9, -1, -2, -3], [12, 6, -1, -2, -3]],
    "infix": [[-1, 9, 5, 6, -2, 14, -3], [-1, 9, 7, -2, 14, -3], [-1, 9, 5, 5, 5, 5, -2, 14, -3]],
    "one row": [[-1, -2, -3, 4, 5]],
    "two prompts": [[-1, -2, -3, 5, 6, 7, 8], [-1, -2, -3, 5, 6, 9], [-1, -2, -3, 5, 6], [-1, -2, -3, 9]],
}
PROMPTS = {"two prompts": [0, 1, 1, 0]}
BEAMS: list[dict[str, Any]] = [
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    {"num_beams": 2, "length_penalty": -1.0},
    {"num_beams": 3, "early_stopping": True},
]
"""One for each of the first layouts."""


def own_model(family: str) -> PreTrainedModel:
    model = tiny(family)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = ENDS
    model.generation_config.pad_token_id = 3
    return model


@cache
def untouched(family: str) -> PreTrainedModel:
    return own_model(family)


@cache
def loaded(family: str, engine: str) -> Backbone:
    return make_backbone(own_model(family), tiny_tokenizer(), name="tiny", engine=engine)


def soft_prompts(count: int = 2) -> Tensor:
    return torch.randn(count, 3, HIDDEN, generator=torch.Generator().manual_seed(1))


def rows_of(layout: str) -> Batch:
    return batch_of(LAYOUTS[layout], ((20,),), prompts=PROMPTS.get(layout))


def theirs(family: str, layout: str, embeddings_TPD: Tensor, **settings: Any) -> list[list[int]]:
    """Transformers' `generate`, each row alone, up to its end token."""
    model, texts = untouched(family), []
    prompts = PROMPTS.get(layout, [0] * len(LAYOUTS[layout]))
    for row, prompt in zip(LAYOUTS[layout], prompts, strict=True):
        vectors = [
            embeddings_TPD[prompt, -1 - token] if token < 0 else typed_embedding(model, token)
            for token in row
        ]
        output = cast(Any, model).generate(
            inputs_embeds=torch.stack(vectors)[None],
            attention_mask=torch.ones(1, len(row), dtype=torch.long),
            do_sample=False,
            **{"max_new_tokens": GREEDY.max_new_tokens, **settings},
        )
        texts.append(to_end(output[0].tolist()))
    return texts


def to_end(tokens: Sequence[int]) -> list[int]:
    ends = [at for at, token in enumerate(tokens) if token in ENDS]
    return list(tokens[: ends[0] + 1] if ends else tokens)


@pytest.mark.parametrize("engine", ["stream", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_transformers(family: str, engine: str) -> None:
    for layout in LAYOUTS:
        bank = PromptBank(embeddings_TPD=soft_prompts())
        ours = loaded(family, engine).generate(bank, rows_of(layout), GREEDY)
        assert ours == theirs(family, layout, soft_prompts()), layout


@pytest.mark.parametrize("engine", ["stream", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_beam_search_is_that_of_transformers(family: str, engine: str) -> None:
    for settings, layout in zip(BEAMS, LAYOUTS, strict=False):
        bank = PromptBank(embeddings_TPD=soft_prompts())
        ours = loaded(family, engine).generate(bank, rows_of(layout), replace(GREEDY, **settings))
        assert ours == theirs(family, layout, soft_prompts(), **settings), (settings, layout)


def greedily(family: str, prefix: tuple[Tensor, Tensor], row: Sequence[int]) -> list[int]:
    """Greedy tokens after keys and values [L, H, P, K], each by a forward of the whole row."""
    model, tokens = untouched(family), [token for token in row if token >= 0]
    num_before = len(tokens)
    while len(tokens) - num_before < GREEDY.max_new_tokens:
        past = DynamicCache(config=model.config.get_text_config(decoder=True))
        for layer, (keys, values) in enumerate(zip(*prefix, strict=True)):
            past.update(keys[None], values[None], layer)
        mask = torch.ones(1, prefix[0].shape[2] + len(tokens), dtype=torch.long)
        with torch.no_grad():
            output = cast(nn.Module, model)(
                input_ids=torch.tensor([tokens]), attention_mask=mask, past_key_values=past, use_cache=True
            )
        tokens.append(int(output.logits[0, -1].argmax()))
        if tokens[-1] in ENDS:
            break
    return tokens[num_before:]


@pytest.mark.parametrize("engine", ["stream", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_after_keys_and_values_are_those_of_full_forwards(family: str, engine: str) -> None:
    lm = loaded(family, engine)
    generator = torch.Generator().manual_seed(2)
    shape = 2, lm.spec.num_layers, lm.spec.num_kv_heads, 3
    keys = torch.randn(*shape, lm.spec.head_size, generator=generator)
    values = torch.randn(*shape, lm.spec.value_size, generator=generator)
    bank = PromptBank(keys_TLHPK=keys, values_TLHPK=values)
    for layout in ("prefix", "two prompts"):
        prompts = PROMPTS.get(layout, [0, 0, 0])
        rows = zip(LAYOUTS[layout], prompts, strict=True)
        expected = [greedily(family, (keys[prompt], values[prompt]), row) for row, prompt in rows]
        assert lm.generate(bank, rows_of(layout), GREEDY) == expected, layout


@pytest.mark.parametrize("engine", ["stream", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_beams_after_a_prompts_keys_and_values_are_those_after_the_prompt(family: str, engine: str) -> None:
    lm, embeddings = loaded(family, engine), soft_prompts(1)
    keys, values = lm.key_values(embeddings[0])
    bank = PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None])
    ours = lm.generate(bank, rows_of("prefix"), replace(GREEDY, num_beams=3))
    assert ours == theirs(family, "prefix", embeddings, num_beams=3)


@pytest.mark.slow
@pytest.mark.parametrize("family", OTHERS)
def test_every_family_of_the_stream_continues_as_its_own_forward_does(family: str) -> None:
    bank, lm = PromptBank(embeddings_TPD=soft_prompts()), loaded(family, "auto")
    assert lm.engine == "stream"
    for layout, num_beams in (("prefix", 1), ("suffix", 3)):
        decoding = replace(GREEDY, num_beams=num_beams)
        plain = loaded(family, "plain").generate(bank, rows_of(layout), decoding)
        assert lm.generate(bank, rows_of(layout), decoding) == plain


@pytest.mark.parametrize("engine", ["stream", "plain"])
def test_an_ensemble_continues_with_its_members_mean_probabilities(engine: str) -> None:
    embeddings, row, tokens = soft_prompts(3), LAYOUTS["prefix"][0], list[int]()
    model = untouched("llama")
    while len(tokens) < GREEDY.max_new_tokens and not (tokens and tokens[-1] in ENDS):
        words = [typed_embedding(model, token) for token in (*row[3:], *tokens)]
        with torch.no_grad():
            rows = torch.stack([torch.stack([*prompt, *words]) for prompt in embeddings])
            logits_TV = cast(nn.Module, model)(inputs_embeds=rows, use_cache=False).logits[:, -1]
        tokens.append(int(logits_TV.softmax(1).mean(0).argmax()))
    bank = PromptBank(embeddings_TPD=embeddings, vote="mean_likelihood")
    lm = loaded("llama", engine)
    assert lm.generate(bank, rows_of("prefix"), GREEDY)[0] == tokens
    with_beams = replace(GREEDY, num_beams=3)
    same_members = replace(bank, embeddings_TPD=embeddings[:1].expand(3, -1, -1))
    alone = PromptBank(embeddings_TPD=embeddings[:1])
    ours = lm.generate(same_members, rows_of("prefix"), with_beams)
    assert ours == lm.generate(alone, rows_of("prefix"), with_beams)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", ["mamba", "lfm2"])
def test_a_model_whose_cache_is_not_known_runs_whole_rows(family: str, num_beams: int) -> None:
    ours = loaded(family, "plain").generate(
        PromptBank(embeddings_TPD=soft_prompts()), rows_of("prefix"), replace(GREEDY, num_beams=num_beams)
    )
    assert ours == theirs(family, "prefix", soft_prompts(), num_beams=num_beams)


@pytest.mark.parametrize("engine", ["stream", "plain"])
def test_samples_of_a_row_do_not_depend_on_the_rows_beside_it(engine: str) -> None:
    lm, bank = loaded("llama", engine), PromptBank(embeddings_TPD=soft_prompts())
    decoding = replace(GREEDY, temperature=2.0)
    batch = rows_of("prefix")
    together = lm.generate(bank, batch, decoding)
    alone = [lm.generate(bank, batch.select([row]), decoding)[0] for row in (2, 0, 1)]
    assert alone == [together[2], together[0], together[1]]
    assert lm.generate(bank, batch, replace(decoding, seed=1)) != together


def test_samples_have_the_distribution_of_the_limited_logits() -> None:
    lm, count = loaded("llama", "stream"), 400
    batch = replace(batch_of([[5, 6, 7]] * count, ((20,),)), row_B=torch.arange(count))
    decoding = replace(GREEDY, max_new_tokens=1, temperature=2.0, top_k=12, top_p=0.8)
    texts = lm.generate(PromptBank(), batch, decoding)
    with torch.no_grad():
        logits_V = cast(nn.Module, untouched("llama"))(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    best = (logits_V / 2).topk(12)
    shares = best.values.double().softmax(0)
    kept = int((shares.cumsum(0) < 0.8).sum()) + 1
    assert 3 < kept < 12
    expected = shares[:kept] / shares[:kept].sum() * count
    observed = [sum(text == [token] for text in texts) for token in best.indices[:kept].tolist()]
    assert sum(observed) == count
    assert chisquare(observed, expected.tolist()).pvalue > 0.01


def test_the_most_likely_token_alone_is_sampled_as_it_is_chosen() -> None:
    lm, bank = loaded("llama", "stream"), PromptBank(embeddings_TPD=soft_prompts())
    sampled = lm.generate(bank, rows_of("prefix"), replace(GREEDY, temperature=1.0, top_k=1))
    assert sampled == lm.generate(bank, rows_of("prefix"), GREEDY)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_stop_string_ends_a_text(num_beams: int) -> None:
    lm, bank = loaded("llama", "stream"), PromptBank(embeddings_TPD=soft_prompts())
    decoding = replace(GREEDY, num_beams=num_beams)
    texts = lm.generate(bank, rows_of("prefix"), decoding)
    # The tokenizer has words for the first 50 tokens alone.
    places = [(row, at) for row, text in enumerate(texts) for at in range(1, len(text)) if text[at] < 50]
    row, at = places[0]
    stop = lm.decode([texts[row][at]])
    stopped = lm.generate(bank, rows_of("prefix"), replace(decoding, stop=(stop,)))[row]
    assert stop not in lm.decode(stopped[:-1])
    if num_beams == 1:
        assert stopped == texts[row][: texts[row].index(texts[row][at]) + 1]


@pytest.mark.parametrize("engine", ["stream", "plain"])
def test_text_beyond_the_models_positions_is_refused(engine: str) -> None:
    lm = loaded("gpt2", engine)
    with pytest.raises(BackboneError, match=r"a row of 5 tokens and decoding.max_new_tokens=600 exceed"):
        lm.generate(PromptBank(), rows_of("one row"), replace(GREEDY, max_new_tokens=600))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, r"decoding.max_new_tokens is 0; give 1 or more"),
        ({"top_p": 1.5}, r"decoding.top_p is 1.5; give above 0 and at most 1"),
        ({"stop": ("",)}, r"decoding.stop is \(''\,\); give strings that are not empty"),
        ({"num_beams": 2, "temperature": 0.5}, r"2 beams and temperature 0.5; beams are not sampled"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(GREEDY, **settings)
