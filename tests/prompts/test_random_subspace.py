"""A prompt in a random subspace against its formula."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.prompts.random_subspace import RandomSubspace
from tests.prompts.formulas import TOKENS, count, embeddings, expect_formula, make
from tests.tiny import HIDDEN

SUBSPACE = ("prompt=black_box", "prompt.initialiser.text=w7 w8 w9 w10")


def test_prompt_and_gradients_are_those_of_the_start_and_a_projection(llama: StreamLM) -> None:
    prompt = make(llama, *SUBSPACE, "prompt.method.dimension=6")
    assert isinstance(prompt, RandomSubspace)
    start_PD, directions = (
        llama.spec.embedding_VD[[7, 8, 9, 10]],
        prompt.directions_dW.unflatten(1, (-1, HIDDEN)),
    )

    def formula(of: Mapping[str, Tensor]) -> PromptBank:
        # Sun et al. 2022, equation 2: p0 + A z.
        moved = sum(number * direction_PD for number, direction_PD in zip(of["z_d"], directions, strict=True))
        return PromptBank(embeddings_TPD=(start_PD + moved)[None])

    assert torch.equal(embeddings(prompt), start_PD)
    assert count(prompt) == 6
    expect_formula(llama, prompt, formula)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_standard_normal_coordinates_spread_the_prompt_as_the_vocabulary(
    llama: StreamLM, scale: float
) -> None:
    prompt = make(llama, *SUBSPACE, "prompt.method.dimension=4000", f"prompt.method.scale={scale}")
    assert isinstance(prompt, RandomSubspace)
    with torch.no_grad():
        prompt.z_d.normal_(generator=torch.Generator().manual_seed(1))
    offset_PD = embeddings(prompt) - prompt.start_PD
    expected = scale * llama.spec.embedding_VD.std()
    # The standard error of a standard deviation of 4 × 32 numbers is 6 %; the vocabulary's is of a sample.
    assert offset_PD.numel() == TOKENS * HIDDEN
    assert float(offset_PD.std() / expected) == pytest.approx(1.0, abs=0.2)
