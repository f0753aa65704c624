"""Keys and values of texts ahead of a prompt: kept once, within a budget, never different."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from softcue.backbone.forward import score_classes
from softcue.backbone.frozen_lm import FrozenLM
from softcue.contracts import Choices, PromptBank
from tests.tiny import FAMILIES, HIDDEN, batch_of, plain_log_likelihood, tiny_lm, tiny_model

CHOICES: Choices = ((20, 21), (24,))
SUFFIX = [[5, 6, 7, 8, -1, -2], [5, 6, 9, -1, -2], [12, 6, -1, -2], [12, 6, 3, 4, 5, 6, 7, -1, -2]]
WITHOUT_CONTEXT = [[-1, 5, 6, -2], *SUFFIX[:2]]


def bank() -> PromptBank:
    generator = torch.Generator().manual_seed(1)
    return PromptBank(embeddings_TPD=torch.randn(1, 2, HIDDEN, generator=generator).requires_grad_())


def scores(lm: FrozenLM, rows: list[list[int]], prompt: PromptBank) -> Tensor:
    return score_classes(lm, prompt, batch_of(rows, CHOICES)).log_likelihood_BC


def count_runs(lm: FrozenLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of every pass through the model, as they happen."""
    passes: list[int] = []
    run = lm.model.base_model.forward

    def counted(**arguments: Tensor) -> object:
        passes.append(arguments["inputs_embeds"].shape[1])
        return run(**arguments)

    monkeypatch.setattr(lm.model.base_model, "forward", counted)
    return passes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [SUFFIX, WITHOUT_CONTEXT], ids=["suffix", "one row without a context"])
@pytest.mark.parametrize("budget_gb", [1.0, 0.0], ids=["kept", "recomputed"])
def test_kept_or_recomputed_contexts_give_the_plain_forward(
    family: str, rows: list[list[int]], budget_gb: float
) -> None:
    lm, prompt = tiny_lm(family), bank()
    lm.contexts.set_budget(budget_gb)
    oracle = plain_log_likelihood(tiny_model(family), prompt, rows, CHOICES)
    for _ in range(2):
        ours = scores(lm, rows, prompt)
        assert ((ours - oracle).abs().max() / oracle.abs().max()).item() < 1e-5
    assert prompt.embeddings_TPD is not None
    (our_gradient,) = torch.autograd.grad(ours[:, 0].sum(), prompt.embeddings_TPD)
    (oracle_gradient,) = torch.autograd.grad(oracle[:, 0].sum(), prompt.embeddings_TPD)
    assert ((our_gradient - oracle_gradient).abs().max() / oracle_gradient.abs().max()).item() < 1e-5


def test_a_kept_context_is_run_once_and_then_only_the_prompt_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm("llama")
    lm.contexts.set_budget(1.0)
    passes = count_runs(lm, monkeypatch)
    scores(lm, SUFFIX, bank())
    scores(lm, SUFFIX, bank())
    # Contexts once (4 + 3 + 2 + 7 words); then two virtual tokens and one trie node a row, twice.
    assert passes == [16, 12, 12]


def test_contexts_beyond_the_budget_are_recomputed_and_said_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = tiny_lm("llama")
    one_token = 2 * 3 * 2 * 8 * 4
    lm.contexts.set_budget(7.5 * one_token / 1e9)
    passes = count_runs(lm, monkeypatch)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            scores(lm, SUFFIX, bank())
    # Of the contexts of 2 and 7 words that did not fit, the first word is shared and runs once.
    assert passes == [16, 12, 8, 12, 8, 12]
    assert len(lm.contexts) == 2
    assert sum("computed again at every step" in message for message in caplog.messages) == 1


def test_words_that_all_rows_share_are_run_as_a_head_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm("llama")
    lm.contexts.set_budget(1.0)
    passes = count_runs(lm, monkeypatch)
    scores(lm, [[5, 6, -1, -2, 7, 8], [5, 6, -1, -2, 9]], bank())
    assert passes == [4 + 2 + 1 + 2]
    assert len(lm.contexts) == 0
