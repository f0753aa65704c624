"""Residual prompts against the paper's formula."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.prompts.residual import ResidualPrompt
from tests.prompts.formulas import TOKENS, count, embeddings, expect_formula, make
from tests.tiny import HIDDEN

WIDTH = 6
RESIDUAL = ("prompt=residual", f"prompt.method.hidden_size={WIDTH}")


def formula(of: Mapping[str, Tensor]) -> PromptBank:
    """Section 3: P' = P + LN(W_up ReLU(W_down P)), token by token; the last network serves the rest."""
    rows, last = [], len(of["gain_ND"]) - 1
    for i, input_D in enumerate(of["input_PD"]):
        own = min(i, last)
        at = f"networks.{own}"
        hidden_m = (of[f"{at}.0.weight"] @ input_D + of[f"{at}.0.bias"]).clamp(min=0)
        output_D = of[f"{at}.2.weight"] @ hidden_m + of[f"{at}.2.bias"]
        centred_D = output_D - output_D.mean()
        normed_D = centred_D / (centred_D.square().mean() + 1e-5).sqrt()
        rows.append(input_D + normed_D * of["gain_ND"][own] + of["shift_ND"][own])
    return PromptBank(embeddings_TPD=torch.stack(rows)[None])


@pytest.mark.parametrize(("separate", "networks"), [("false", 1), ("true", TOKENS)])
def test_prompt_and_gradients_are_those_of_the_papers_formula(
    llama: StreamLM, separate: str, networks: int
) -> None:
    prompt = make(llama, *RESIDUAL, f"prompt.method.separate={separate}")
    expect_formula(llama, prompt, formula)
    assert count(prompt) == TOKENS * HIDDEN + networks * (2 * HIDDEN * WIDTH + WIDTH + 3 * HIDDEN)


def test_the_branch_starts_as_a_share_of_the_initialisers_spread(llama: StreamLM) -> None:
    start_PD = embeddings(make(llama, "prompt=prompt_tuning"))
    prompt = make(llama, *RESIDUAL, "prompt.method.gain=0.1")
    assert isinstance(prompt, ResidualPrompt)
    branch_PD = embeddings(prompt) - start_PD
    torch.testing.assert_close(branch_PD.square().mean().sqrt(), 0.1 * start_PD.std(), rtol=1e-2, atol=0)
    assert torch.allclose(embeddings(make(llama, *RESIDUAL, "prompt.method.gain=0")), start_PD)
