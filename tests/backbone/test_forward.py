"""The plan gives the log-likelihoods and prompt gradients of the plain forward."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone import scoring
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Choices, PromptBank
from tests.tiny import (
    FAMILIES,
    HIDDEN,
    batch_of,
    plain_log_likelihood,
    score_classes,
    score_targets,
    tiny_lm,
    tiny_model,
    tiny_tokenizer,
)

CLOSE = 1e-5
CHOICES: Choices = ((20, 21, 22), (20, 21, 23), (24,), (20, 25, 26))
LAYOUTS = {
    "prefix": [[-1, -2, -3, 5, 6, 7, 8], [-1, -2, -3, 5, 6, 9], [-1, -2, -3, 5, 6, 7, 8, 9, 10, 11]],
    "suffix": [[5, 6, 7, 8, -1, -2, -3], [5, 6, 9, -1, -2, -3], [12, 6, -1, -2, -3]],
    "infix and words": [[-1, 9, 5, 6, -2, 14, -3], [-1, 9, 7, -2, 14, -3], [-1, 9, 5, 5, 5, 5, -2, 14, -3]],
    "one row": [[-1, -2, -3, 4, 5]],
    "the same row twice": [[-1, -2, -3, 4, 5], [-1, -2, -3, 4, 5]],
}


def prompt(*, num_prompts: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_prompts, 3, HIDDEN, generator=generator).requires_grad_()


def relative(ours: Tensor, oracle: Tensor) -> float:
    return ((ours - oracle).abs().max() / oracle.abs().max()).item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_and_gradients_equal_the_plain_forward(family: str, layout: str) -> None:
    embeddings, rows = prompt(), LAYOUTS[layout]
    bank = PromptBank(embeddings_TPD=embeddings)
    oracle = plain_log_likelihood(tiny_model(family), bank, rows, CHOICES)
    ours = score_classes(tiny_lm(family), bank, batch_of(rows, CHOICES)).log_likelihood_BC
    assert relative(ours, oracle) < CLOSE
    (oracle_gradient,) = torch.autograd.grad(oracle[:, 0].sum(), embeddings)
    (our_gradient,) = torch.autograd.grad(ours[:, 0].sum(), embeddings)
    assert relative(our_gradient, oracle_gradient) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_with_different_prompts_run_together(family: str) -> None:
    bank = PromptBank(embeddings_TPD=prompt(num_prompts=3))
    rows, prompts = LAYOUTS["prefix"] * 2, [0, 2, 0, 1, 2, 2]
    oracle = plain_log_likelihood(tiny_model(family), bank, rows, CHOICES, prompts)
    ours = score_classes(tiny_lm(family), bank, batch_of(rows, CHOICES, prompts=prompts)).log_likelihood_BC
    assert relative(ours, oracle) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_of_word_embeddings_equals_those_words_typed(family: str) -> None:
    lm = tiny_lm(family)
    soft = PromptBank(embeddings_TPD=lm.spec.embedding_VD[[7, 8, 9]][None])
    typed = [[7, 8, 9, *row[3:]] for row in LAYOUTS["prefix"]]
    with_soft = score_classes(lm, soft, batch_of(LAYOUTS["prefix"], CHOICES)).log_likelihood_BC
    with_words = score_classes(lm, PromptBank(), batch_of(typed, CHOICES)).log_likelihood_BC
    assert relative(with_soft, with_words) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompts_keys_and_values_as_a_prefix_equal_that_prompt(family: str) -> None:
    lm, embeddings = tiny_lm(family), prompt().detach()
    keys, values = lm.key_values(embeddings[0])
    in_layers = PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None])
    rows = batch_of(LAYOUTS["prefix"], CHOICES)
    expected = score_classes(lm, PromptBank(embeddings_TPD=embeddings), rows).log_likelihood_BC
    assert relative(score_classes(lm, in_layers, rows).log_likelihood_BC, expected) < CLOSE


def test_only_the_prompt_receives_gradients() -> None:
    lm, embeddings = tiny_lm("llama"), prompt()
    batch = batch_of(LAYOUTS["prefix"], CHOICES, targets=[0, 1, 2])
    score_targets(lm, PromptBank(embeddings_TPD=embeddings), batch).log_likelihood_BC.sum().backward()
    assert embeddings.grad is not None
    assert [name for name, p in lm.model.named_parameters() if p.requires_grad or p.grad is not None] == []


def test_a_label_scores_the_same_alone_as_among_all_classes() -> None:
    lm, bank, targets = tiny_lm("bloom"), PromptBank(embeddings_TPD=prompt()), [2, 0, 3]
    batch = batch_of(LAYOUTS["prefix"], CHOICES, targets=targets)
    among = score_classes(lm, bank, batch)
    alone = score_targets(lm, bank, batch)
    assert relative(alone.log_likelihood_BC[:, 0], among.log_likelihood_BC[range(3), targets]) < CLOSE
    assert alone.num_tokens_BC.flatten().tolist() == [1, 3, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_in_chunks_give_the_same_scores_and_gradients(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, embeddings = tiny_lm(family), prompt()
    batch = batch_of(LAYOUTS["prefix"], CHOICES)

    def run() -> tuple[Tensor, Tensor]:
        scores = score_classes(lm, PromptBank(embeddings_TPD=embeddings), batch).log_likelihood_BC
        return scores, torch.autograd.grad(scores[:, 3].sum(), embeddings)[0]

    whole = run()
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 2 * lm.spec.vocab_size)
    chunked = run()
    assert relative(chunked[0], whole[0]) < CLOSE
    assert relative(chunked[1], whole[1]) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("in_layers", [False, True])
def test_recomputing_activations_changes_no_gradient(family: str, in_layers: bool) -> None:
    plain, saving = tiny_lm(family), tiny_lm(family)
    saving.checkpoint_gradients()
    keys, values = plain.key_values(prompt().detach()[0])
    gradients = []
    for lm in (plain, saving):
        leaf = (keys[None] if in_layers else prompt().detach()).clone().requires_grad_()
        bank = PromptBank(embeddings_TPD=leaf)
        if in_layers:
            bank = PromptBank(keys_TLHPK=leaf, values_TLHPK=values[None])
        batches = [batch_of(LAYOUTS["prefix"], CHOICES), batch_of(LAYOUTS["one row"], CHOICES)]
        # Two forward passes before one backward pass: each layer must be recomputed under its own plan.
        both = [score_classes(lm, bank, batch).log_likelihood_BC.sum() for batch in batches]
        gradients.append(torch.autograd.grad(both[0] + both[1], leaf)[0])
    assert relative(gradients[1], gradients[0]) < CLOSE


def test_rows_of_different_tasks_keep_their_own_classes() -> None:
    lm, bank = tiny_lm("gpt2"), PromptBank(embeddings_TPD=prompt())
    rows, tasks = LAYOUTS["prefix"][:2], (CHOICES, CHOICES[2:])
    together = score_classes(lm, bank, replace(batch_of(rows, CHOICES), choices=tasks)).log_likelihood_BC
    for row, choices, scores in zip(rows, tasks, together, strict=True):
        alone = score_classes(lm, bank, batch_of([row], choices)).log_likelihood_BC[0]
        assert relative(scores[: len(choices)], alone) < CLOSE
        assert torch.isneginf(scores[len(choices) :]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_with_bfloat16_weights_the_sums_between_layers_stay_fp32(family: str) -> None:
    rows = [row for layout in LAYOUTS.values() for row in layout]
    bank = PromptBank(embeddings_TPD=prompt().detach())
    low = tiny_model(family).bfloat16()
    exact = plain_log_likelihood(copy.deepcopy(low).float(), bank, rows, CHOICES)
    lm = StreamLM(low, tiny_tokenizer(), name="low")
    between: list[torch.dtype] = []
    for module in low.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.register_forward_pre_hook(lambda _, inputs: between.append(inputs[0].dtype))
    ours = score_classes(lm, bank, batch_of(rows, CHOICES)).log_likelihood_BC
    assert set(between) == {torch.float32}
    assert relative(ours, exact) < 0.01
