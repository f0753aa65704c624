"""Encoder-decoders: scores and gradients are those of the model's own forward, and of T5 written out."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.backbone.engine import make_backbone
from softcue.contracts import Choices, PromptBank
from softcue.errors import BackboneError, ConfigError
from tests.backbone.encoder_decoder_table import HEADING, PAGE, line_of
from tests.backbone.encoder_decoders import (
    FAMILIES,
    HIDDEN,
    PlainT5,
    Prefix,
    on_engine,
    oracle,
    tiny_encoder_decoder,
)
from tests.cases import slow_but
from tests.tiny import batch_of, score_classes, tiny_tokenizer

LABELS: Choices = ((20, 21, 22), (20, 21), (24,), (20, 25))
"""Labels that share tokens; one is the beginning of another."""
TEXTS = [[30, 31, 32, 33], [30, 31, 40, 41, 42, 43, 44], [50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 30, 31]]
PROMPTS = [0, 1, 1]
LAYOUTS = {
    "in front": [[-1, -2, -3, *text] for text in TEXTS],
    "behind": [[*text, -1, -2, -3] for text in TEXTS],
    "around": [[-1, *text[:2], -2, -3, *text[2:]] for text in TEXTS],
}
REFUSED = {"led": "NaN beside a longer row", "prophetnet": "cannot be run part by part"}
RUN = [family for family in FAMILIES if family not in REFUSED]
QUICK = ("t5", "umt5", "bart")
RELATIVE = ["t5", "mt5", "umt5"]


@cache
def loaded(family: str) -> EncoderDecoderLM:
    return on_engine(family)


def vectors(*shape: int, seed: int = 1) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5).requires_grad_()


def difference(ours: Tensor, expected: Tensor) -> float:
    """The largest, relative to the largest value."""
    return float(((ours - expected).abs().max() / expected.abs().max()).detach())


def expect_equal(ours: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    assert ours.shape == expected.shape
    assert difference(ours, expected) < 1e-6
    for own, other in zip(
        torch.autograd.grad(ours[:, 0].sum() + ours[:, 3].sum(), leaves),
        torch.autograd.grad(expected[:, 0].sum() + expected[:, 3].sum(), leaves),
        strict=True,
    ):
        assert difference(own, other) < 1e-5  # T5's layer norm rounds to float32


@pytest.mark.parametrize("submodules", [1, 2])
@pytest.mark.parametrize("family", slow_but(QUICK, RUN))
def test_scores_and_gradients_are_those_of_the_models_own_forward(family: str, submodules: int) -> None:
    model = tiny_encoder_decoder(family)
    for rows in LAYOUTS.values():
        leaves = [vectors(2, 3, HIDDEN, seed=seed) for seed in range(submodules)]
        bank = PromptBank(
            embeddings_TPD=leaves[0], decoder_embeddings_TPD=leaves[1] if submodules == 2 else None
        )
        ours = score_classes(loaded(family), bank, batch_of(rows, LABELS, prompts=PROMPTS)).log_likelihood_BC
        expect_equal(ours, oracle(model, bank, rows, LABELS, PROMPTS), leaves)


@pytest.mark.parametrize("family", slow_but(QUICK, RUN))
def test_text_alone_is_scored_as_the_model_scores_it(family: str) -> None:
    ours = score_classes(loaded(family), PromptBank(), batch_of(TEXTS, LABELS)).log_likelihood_BC
    expected = oracle(tiny_encoder_decoder(family), PromptBank(), TEXTS, LABELS, [0, 0, 0])
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sites", [["encoder"], ["decoder"], ["cross"], ["encoder", "decoder", "cross"]])
@pytest.mark.parametrize("family", slow_but(("t5", "umt5"), RELATIVE))
def test_prefixes_at_each_attention_are_those_of_t5_written_out(family: str, sites: list[str]) -> None:
    lm, plain = loaded(family), PlainT5(tiny_encoder_decoder(family))
    spec = lm.spec.only(sites)
    leaves = [vectors(1, spec.num_layers, spec.num_kv_heads, 3, spec.head_size, seed=seed) for seed in (1, 2)]
    bank = PromptBank(keys_TLHPK=leaves[0], values_TLHPK=leaves[1], attentions=tuple(sites))
    rows = [[-1, -2, -3, *text] for text in TEXTS]
    ours = score_classes(lm, bank, batch_of(rows, LABELS)).log_likelihood_BC
    sizes = [len(lm.spec.attentions[site]) for site in sites]
    ends = [sum(sizes[:at]) for at in range(len(sizes) + 1)]
    prefixes = {
        site: Prefix(leaves[0][0, first:end], leaves[1][0, first:end])
        for site, (first, end) in zip(sites, pairwise(ends), strict=True)
    }
    expected = torch.stack(
        [torch.stack([plain.score(PromptBank(), row, label, prefixes) for label in LABELS]) for row in TEXTS]
    )
    expect_equal(ours, expected, leaves)


@pytest.mark.parametrize("family", slow_but(("t5", "umt5"), RELATIVE))
def test_t5_written_out_is_t5(family: str) -> None:
    model = tiny_encoder_decoder(family)
    expected = oracle(model, PromptBank(), TEXTS, LABELS, [0, 0, 0])
    plain = PlainT5(model)
    ours = torch.stack(
        [torch.stack([plain.score(PromptBank(), row, label, {}) for label in LABELS]) for row in TEXTS]
    )
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", slow_but(("t5", "umt5"), RELATIVE))
def test_prefixes_of_two_lengths_run_beside_each_other(family: str) -> None:
    lm = loaded(family)
    shape = lm.spec.num_layers, lm.spec.num_kv_heads
    banks = [
        PromptBank(
            keys_TLHPK=vectors(1, *shape, count, lm.spec.head_size, seed=count),
            values_TLHPK=vectors(1, *shape, count, lm.spec.value_size, seed=count + 1),
        ).detach()
        for count in (5, 2)
    ]
    rows = [[*range(-1, -1 - count, -1), *text] for count, text in zip((5, 2, 2), TEXTS, strict=True)]
    both = score_classes(lm, PromptBank.concat(banks), batch_of(rows, LABELS, prompts=PROMPTS))
    alone = [
        score_classes(lm, banks[prompt], batch_of([row], LABELS)).log_likelihood_BC
        for row, prompt in zip(rows, PROMPTS, strict=True)
    ]
    torch.testing.assert_close(both.log_likelihood_BC, torch.cat(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_row_has_the_same_scores_beside_any_others(family: str) -> None:
    lm, rows = loaded(family), LAYOUTS["around"]
    bank = PromptBank(embeddings_TPD=vectors(2, 3, HIDDEN)).detach()
    together = score_classes(lm, bank, batch_of(rows, LABELS, prompts=PROMPTS)).log_likelihood_BC
    for at, row in enumerate(rows):
        alone = score_classes(lm, bank, batch_of([row], LABELS, prompts=PROMPTS[at : at + 1]))
        torch.testing.assert_close(alone.log_likelihood_BC[0], together[at], rtol=1e-5, atol=1e-5)
        for label, labels in ((0, LABELS[:1]), (2, LABELS[2:3])):
            one = score_classes(lm, bank, batch_of([row], labels, prompts=PROMPTS[at : at + 1]))
            torch.testing.assert_close(one.log_likelihood_BC[0, 0], together[at, label], rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain, recomputing = on_engine("t5"), on_engine("t5")
    recomputing.checkpoint_gradients()
    leaf = vectors(1, plain.spec.num_layers, plain.spec.num_kv_heads, 3, plain.spec.head_size)
    bank = PromptBank(keys_TLHPK=leaf, values_TLHPK=leaf)
    batch = batch_of(LAYOUTS["in front"], LABELS)
    own, again = (
        torch.autograd.grad(score_classes(lm, bank, batch).log_likelihood_BC.sum(), leaf)[0]
        for lm in (plain, recomputing)
    )
    torch.testing.assert_close(own, again)


@pytest.mark.parametrize("family", ["bart", "pegasus"])
def test_absolute_positions_refuse_keys_and_values(family: str) -> None:
    with pytest.raises(ConfigError, match="positions are absolute"):
        loaded(family).spec.expect_prefixes()


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_cannot_be_run_is_refused_by_name(family: str) -> None:
    with pytest.raises(BackboneError, match=f"ForConditionalGeneration .*{REFUSED[family]}"):
        on_engine(family)


def test_the_stream_engine_is_refused() -> None:
    with pytest.raises(BackboneError, match="T5ForConditionalGeneration has an encoder"):
        make_backbone(tiny_encoder_decoder("t5"), tiny_tokenizer(), name="tiny", engine="stream")


@pytest.mark.parametrize("family", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_the_page_of_families_is_what_is_measured(family: str) -> None:
    lines = PAGE.read_text().partition(HEADING)[2].splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {family} |")]
    found, written = (of.strip("| ").split(" | ") for of in (line_of(family), line))
    assert found[3] == written[3]
    assert max(float(found[1]), float(written[1])) < 1e-6
    assert max(float(found[2]), float(written[2])) < 2e-5


@pytest.mark.parametrize("family", slow_but(["t5"], ["t5", "mt5", "bart"]))
def test_a_bfloat16_model_runs_as_its_own_forward_does_up_to_rounding(family: str) -> None:
    lm = on_engine(family, dtype=torch.bfloat16)
    assert (lm.spec.prefix_refusal is None) == (family in RELATIVE)
    assert {parameter.dtype for parameter in lm.model.parameters()} == {torch.bfloat16}
    bank = PromptBank(embeddings_TPD=vectors(2, 3, HIDDEN)).detach()
    ours = score_classes(lm, bank, batch_of(LAYOUTS["around"], LABELS, prompts=PROMPTS)).log_likelihood_BC
    wide = tiny_encoder_decoder(family, dtype=torch.bfloat16)
    cast(nn.Module, wide).to(torch.float32)
    exact = oracle(wide, bank, LAYOUTS["around"], LABELS, PROMPTS)
    assert difference(ours, exact) < 0.03
