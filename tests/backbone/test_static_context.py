"""Keys and values of texts before a prompt: computed once, kept within a budget, and always the same."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Choices, PromptBank
from tests.tiny import FAMILIES, HIDDEN, batch_of, plain_log_likelihood, score_classes, tiny_lm, tiny_model

CHOICES: Choices = ((20, 21), (24,))
SUFFIX = [[5, 6, 7, 8, -1, -2], [5, 6, 9, -1, -2], [12, 6, -1, -2], [12, 6, 3, 4, 5, 6, 7, -1, -2]]
WITHOUT_CONTEXT = [[-1, 5, 6, -2], *SUFFIX[:2]]


def bank() -> PromptBank:
    generator = torch.Generator().manual_seed(1)
    return PromptBank(embeddings_TPD=torch.randn(1, 2, HIDDEN, generator=generator).requires_grad_())


def scores(lm: StreamLM, rows: list[list[int]], prompt: PromptBank) -> Tensor:
    return score_classes(lm, prompt, batch_of(rows, CHOICES)).log_likelihood_BC


def count_runs(lm: StreamLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each pass through the model, appended as passes happen."""
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


def test_a_kept_context_runs_once_and_later_only_the_prompt_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny_lm("llama")
    lm.contexts.set_budget(1.0)
    passes = count_runs(lm, monkeypatch)
    scores(lm, SUFFIX, bank())
    scores(lm, SUFFIX, bank())
    # Each context once, alone; then, in both steps, two virtual tokens and one trie node per row.
    assert passes == [4, 3, 2, 7, 12, 12]


def test_contexts_beyond_the_budget_are_recomputed_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = tiny_lm("llama")
    one_token = 2 * 3 * 2 * 8 * 4
    lm.contexts.set_budget(7.5 * one_token / 1e9)
    passes = count_runs(lm, monkeypatch)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            scores(lm, SUFFIX, bank())
    # The contexts of 2 and 7 tokens do not fit.
    assert passes == [4, 3, 2, 7, 12, 2, 7, 12, 2, 7, 12]
    assert len(lm.contexts) == 2
    assert sum("computed again at every step" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("budget_gb", [1.0, 0.0], ids=["kept", "recomputed"])
def test_a_score_has_the_same_bytes_whatever_was_scored_before(family: str, budget_gb: float) -> None:
    fresh, used = tiny_lm(family), tiny_lm(family)
    fresh.limit_cache(1.0)
    used.limit_cache(budget_gb)
    scores(used, SUFFIX[::-1], bank())
    scores(used, SUFFIX[1:3], bank())
    assert torch.equal(scores(fresh, SUFFIX, bank()), scores(used, SUFFIX, bank()))


def test_contexts_computed_under_autocast_are_not_rounded() -> None:
    fresh, used = tiny_lm("llama"), tiny_lm("llama")
    for lm in (fresh, used):
        lm.limit_cache(1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores(used, SUFFIX, bank())
    assert torch.equal(scores(fresh, SUFFIX, bank()), scores(used, SUFFIX, bank()))


def test_moving_a_model_drops_its_contexts() -> None:
    lm = tiny_lm("llama")
    lm.limit_cache(1.0)
    scores(lm, SUFFIX, bank())
    lm.to("cpu")
    assert len(lm.contexts) == 4
    lm.to("meta")
    assert len(lm.contexts) == 0


def test_words_that_all_rows_share_run_as_a_shared_prefix_and_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = tiny_lm("llama")
    lm.contexts.set_budget(1.0)
    passes = count_runs(lm, monkeypatch)
    scores(lm, [[5, 6, -1, -2, 7, 8], [5, 6, -1, -2, 9]], bank())
    assert passes == [4 + 2 + 1 + 2]
    assert len(lm.contexts) == 0
