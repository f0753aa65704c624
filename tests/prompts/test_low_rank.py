"""Low-rank prompts against P = A B and against numpy's singular values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.configs.combinations import expect_possible
from softcue.contracts import PromptBank
from softcue.errors import ConfigError
from tests.prompts.formulas import TOKENS, count, embeddings, expect_formula, make
from tests.tiny import HIDDEN

RANDOM = "prompt/initialiser=random_normal"


def formula(of: Mapping[str, Tensor]) -> PromptBank:
    return PromptBank(embeddings_TPD=torch.einsum("pr,rd->pd", of["left_Pr"], of["right_rD"])[None])


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_prompt_and_gradients_are_those_of_the_product(llama: StreamLM, rank: int) -> None:
    prompt = make(llama, "prompt=low_rank", f"prompt.method.rank={rank}")
    expect_formula(llama, prompt, formula)
    assert count(prompt) == rank * (TOKENS + HIDDEN)


def test_it_starts_from_the_best_approximation_of_the_initialiser(llama: StreamLM) -> None:
    start_PD = embeddings(make(llama, "prompt=prompt_tuning", RANDOM)).double().numpy()
    for rank in (1, 3, 4):
        found_PD = embeddings(make(llama, "prompt=low_rank", RANDOM, f"prompt.method.rank={rank}"))
        missed = np.linalg.svd(start_PD, compute_uv=False)[rank:]
        distance = np.linalg.norm(found_PD.double().numpy() - start_PD)
        assert distance == pytest.approx(float(np.sqrt((missed**2).sum())), abs=1e-5)


def test_every_direction_can_learn_from_a_start_of_repeated_words(llama: StreamLM) -> None:
    """Two words repeated have rank 2; the other rows of B start at zero and still get gradients."""
    prompt = make(llama, "prompt=low_rank", "prompt.method.rank=4", "prompt.initialiser.text=w7 w8")
    left_Pr = prompt.get_parameter("left_Pr")
    torch.testing.assert_close(left_Pr.T @ left_Pr, TOKENS * torch.eye(4), rtol=0, atol=1e-5)


def test_a_rank_above_the_number_of_virtual_tokens_is_refused_before_loading() -> None:
    method = {"_target_": "softcue.prompts.low_rank.LowRankPrompt", "rank": 8}
    expect_possible(method, num_virtual_tokens=8)
    with pytest.raises(
        ConfigError, match=r"prompt\.method\.rank is 8, more than the 7 virtual tokens .* set it to 7"
    ):
        expect_possible(method, num_virtual_tokens=7)
