"""Prompts that enter above the first layer equal a forward written apart: plain text below them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from softcue.backbone import entry, verify
from softcue.backbone.base import Backbone, embedding_of
from softcue.backbone.families import VERIFIED
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Choices, Decoding, PromptBank
from softcue.errors import ConfigError
from tests.backbone.zoo import tiny
from tests.tiny import (
    FAMILIES,
    HEADS,
    HIDDEN,
    LAYERS,
    batch_of,
    score_classes,
    score_targets,
    tiny_model,
    tiny_tokenizer,
)

CLOSE = 1e-5
CHOICES: Choices = ((20, 21, 22), (20, 21, 23), (24,), (20, 25, 26))
LAYOUTS = {
    "in front": [[-1, -2, -3, 5, 6, 7, 8], [-1, -2, -3, 5, 6, 9], [-1, -2, -3, 5, 6, 7, 8, 9, 10, 11]],
    "behind": [[5, 6, 7, 8, -1, -2, -3], [5, 6, 9, -1, -2, -3], [12, 6, -1, -2, -3]],
    "around": [[-1, 9, 5, 6, -2, 14, -3], [-1, 9, 7, -2, 14, -3], [-1, 9, 5, 5, 5, 5, -2, 14, -3]],
}
PROMPTS = [0, 1, 0]
UNSUITED = "its upper layers read more than their input"
GREEDY = Decoding(
    max_new_tokens=4,
    num_beams=1,
    length_penalty=1.0,
    early_stopping=False,
    temperature=0.0,
    top_k=None,
    top_p=None,
    seed=0,
    stop=(),
)
ENGINES: tuple[type[PlainLM | StreamLM], ...] = (PlainLM, StreamLM)


def on(engine: type[PlainLM | StreamLM], family: str) -> Backbone:
    return engine(tiny_model(family), tiny_tokenizer(), name=f"tiny_{family}")


def late(first_layer: int) -> PromptBank:
    generator = torch.Generator().manual_seed(1)
    vectors_TPD = torch.randn(2, 3, HIDDEN, generator=generator).requires_grad_()
    return PromptBank(embeddings_TPD=vectors_TPD, first_layer=first_layer)


def late_prefix(first_layer: int, num_heads: int) -> PromptBank:
    generator = torch.Generator().manual_seed(1)
    shape = 2, LAYERS - first_layer, num_heads, 3, HIDDEN // HEADS
    keys, values = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(2))
    return PromptBank(keys_TLHPK=keys, values_TLHPK=values, first_layer=first_layer)


def upper_layers(model: PreTrainedModel, first_layer: int) -> PreTrainedModel:
    """A model of the upper layers, whose embeddings reach the first of them as they are."""
    upper = deepcopy(model)
    base = cast(Any, upper.base_model)
    name = "layers" if hasattr(base, "layers") else "h"
    kept = getattr(base, name)[first_layer:]
    setattr(base, name, kept)
    upper.config.num_hidden_layers = len(kept)
    for module in upper.modules():
        if hasattr(module, "layer_idx"):
            cast(Any, module).layer_idx -= first_layer
    if hasattr(base, "word_embeddings_layernorm"):
        base.word_embeddings_layernorm = nn.Identity()
    if hasattr(base, "wpe"):
        base.wpe.weight.data.zero_()
    return upper


def oracle(model: PreTrainedModel, bank: PromptBank, rows: Sequence[Sequence[int]]) -> Tensor:
    """Every row and class alone, in full: [B, C]."""
    upper = upper_layers(model, bank.first_layer)
    return torch.stack(
        [
            torch.stack(
                [
                    likelihood(log_probs(model, upper, bank, [*row, *label], prompt), label)
                    for label in CHOICES
                ]
            )
            for row, prompt in zip(rows, PROMPTS, strict=True)
        ]
    )


def log_probs(
    model: PreTrainedModel, upper: PreTrainedModel, bank: PromptBank, ids: Sequence[int], prompt: int
) -> Tensor:
    """The next token's, at every position from the prompt on: [T, V]."""
    words = torch.tensor([[token for token in ids if token >= 0]])
    with torch.no_grad():
        below = cast(nn.Module, model)(input_ids=words, output_hidden_states=True)
    states = iter(below.hidden_states[bank.first_layer][0])
    cache = DynamicCache()
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        ids = [token for token in ids if token >= 0]
        layers = zip(bank.keys_TLHPK[prompt], bank.values_TLHPK[prompt], strict=True)
        for layer, (keys, values) in enumerate(layers):
            cache.update(keys[None], values[None], layer)
    vectors = [
        next(states) if token >= 0 else cast(Tensor, bank.embeddings_TPD)[prompt, -1 - token] for token in ids
    ]
    seen = torch.ones(1, len(vectors) + bank.prefix_lengths[prompt], dtype=torch.long)
    logits = cast(nn.Module, upper)(
        inputs_embeds=torch.stack(vectors)[None], attention_mask=seen, past_key_values=cache
    ).logits
    return cast(Tensor, logits[0].log_softmax(-1))


def likelihood(log_probs_TV: Tensor, label: Sequence[int]) -> Tensor:
    return log_probs_TV[-len(label) - 1 : -1].gather(1, torch.tensor(label)[:, None]).sum()


def expect_equal(lm: Backbone, bank: PromptBank, rows: Sequence[Sequence[int]], expected_BC: Tensor) -> None:
    """Twice, as the second time the engine may have kept what does not change."""
    numbers = list(bank.tensors().values())
    theirs = torch.autograd.grad(expected_BC[:, 0].sum(), numbers, retain_graph=True)
    for _ in range(2):
        ours_BC = score_classes(lm, bank, batch_of(rows, CHOICES, prompts=PROMPTS)).log_likelihood_BC
        assert relative(ours_BC, expected_BC) < CLOSE
        for gradient, reference in zip(
            torch.autograd.grad(ours_BC[:, 0].sum(), numbers), theirs, strict=True
        ):
            assert relative(gradient, reference) < 10 * CLOSE


def relative(ours: Tensor, expected: Tensor) -> float:
    return ((ours - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_gradients_are_those_of_a_forward_written_apart(
    family: str, layout: str, engine: type[PlainLM | StreamLM]
) -> None:
    lm = on(engine, family)
    lm.limit_cache(0.1)
    for first_layer in (1, LAYERS - 1):
        bank = late(first_layer)
        expect_equal(lm, bank, LAYOUTS[layout], oracle(tiny_model(family), bank, LAYOUTS[layout]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_of_the_upper_layers_alone(family: str, engine: type[PlainLM | StreamLM]) -> None:
    lm = on(engine, family)
    bank = late_prefix(1, lm.spec.num_kv_heads)
    expect_equal(lm, bank, LAYOUTS["in front"], oracle(tiny_model(family), bank, LAYOUTS["in front"]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_states_of_words_are_the_models_own(family: str, engine: type[PlainLM | StreamLM]) -> None:
    lm, ids = on(engine, family), torch.tensor([5, 6, 7])
    with torch.no_grad():
        model = cast(nn.Module, tiny_model(family))
        expected = model(input_ids=ids[None], output_hidden_states=True).hidden_states
    for layer in range(LAYERS):
        torch.testing.assert_close(lm.spec.states(lm.spec.embed(ids), layer), expected[layer][0])


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_texts_are_those_of_the_forward_written_apart(engine: type[PlainLM | StreamLM]) -> None:
    bank, rows, model = late(1), LAYOUTS["behind"], tiny_model("llama")
    upper, expected = upper_layers(model, 1), []
    for row, prompt in zip(rows, PROMPTS, strict=True):
        ids = [*row]
        while len(ids) < len(row) + 4 and 2 not in ids:
            ids.append(int(log_probs(model, upper, bank, ids, prompt)[-1].argmax()))
        expected.append(ids[len(row) :])
    batch = batch_of(rows, CHOICES, prompts=PROMPTS)
    assert on(engine, "llama").generate(bank, batch, GREEDY) == expected


@pytest.mark.parametrize("family", sorted(VERIFIED))
def test_every_verified_family_gives_the_results_of_its_own_forward(family: str) -> None:
    plain = PlainLM(tiny(family), tiny_tokenizer(), name="tiny")
    exact = verify.reference(plain)
    assert set(exact.late[0]) == {"a late prompt"}
    stream = StreamLM(plain.model, plain.tokenizer, name="tiny")
    assert verify.entry_refusal(stream, exact) is None


def test_a_kept_row_runs_no_lower_layer_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, bank = on(StreamLM, "llama"), late(2)
    lm.limit_cache(0.1)
    passes: list[int] = []

    def counted(layer: int, forward: Callable[..., object], *arguments: object, **named: object) -> object:
        passes.append(layer)
        return forward(*arguments, **named)

    for layer, module in enumerate(entry.layers(lm.model)):
        monkeypatch.setattr(module, "forward", partial(counted, layer, module.forward))
    batch = batch_of(LAYOUTS["in front"], CHOICES, prompts=PROMPTS)
    score_targets(lm, bank, batch)
    assert passes == [0, 1] * len(batch) + [2]
    passes.clear()
    score_targets(lm, bank, batch)
    assert passes == [2]


def test_a_row_without_a_label_is_not_kept() -> None:
    lm = on(StreamLM, "llama")
    assert isinstance(lm, StreamLM)
    lm.limit_cache(0.1)
    lm.generate(late(1), batch_of(LAYOUTS["in front"], CHOICES, prompts=PROMPTS), GREEDY)
    assert len(lm.contexts) == 0


def test_prompts_of_several_first_layers_do_not_run_together() -> None:
    with pytest.raises(ConfigError, match=r"enter at layers \[0, 2\] cannot run together"):
        PromptBank.concat([late(0), late(2)])


@pytest.mark.parametrize("layer", [-1, LAYERS])
def test_a_layer_that_the_model_does_not_have_is_refused(layer: int) -> None:
    with pytest.raises(ConfigError, match=rf"first_layer is {layer}, and backbone tiny_llama has 3 layers"):
        on(StreamLM, "llama").spec.entry(layer, name="first_layer")


def test_a_model_whose_layers_read_more_than_their_input_is_refused() -> None:
    lm = on(PlainLM, "llama")
    refused = replace(lm.spec, entry_refusal=UNSUITED)
    assert refused.entry(0, name="first_layer") == 0
    with pytest.raises(ConfigError, match=f"no prompt above its first layer: {UNSUITED}. Set first_layer=0"):
        refused.entry(1, name="first_layer")


def test_layers_that_add_the_embeddings_again_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    embedded: list[Tensor] = []
    model.base_model.register_forward_pre_hook(
        lambda _, __, named: embedded.append(named["inputs_embeds"]), with_kwargs=True
    )
    last = entry.layers(model)[-1]
    last.register_forward_hook(lambda _, __, output: output + embedded[-1])
    assert entry.refusal(model, embedding_of(model)) == UNSUITED
    assert entry.refusal(tiny_model("llama"), embedding_of(tiny_model("llama"))) is None
