"""Superposed prompts against p_i = E w_i, summed word by word."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.prompts.superposition import SuperposedPrompt
from tests.prompts.formulas import TOKENS, count, embeddings, expect_formula, make
from tests.tiny import HIDDEN

WORDS = 7
SUPERPOSED = ("prompt=superposition", f"prompt.method.num_words={WORDS}")


@pytest.mark.parametrize("train_words", [False, True])
def test_prompt_and_gradients_are_those_of_the_weighted_sums(llama: StreamLM, train_words: bool) -> None:
    prompt = make(llama, *SUPERPOSED, f"prompt.method.train_words={train_words}")
    assert isinstance(prompt, SuperposedPrompt)

    def formula(of: Mapping[str, Tensor]) -> PromptBank:
        words_WD = of.get("words_WD", prompt.words_WD)
        sums = [
            sum(
                (weight * word_D for weight, word_D in zip(weights_W, words_WD, strict=True)), torch.zeros(())
            )
            for weights_W in of["weights_PW"]
        ]
        return PromptBank(embeddings_TPD=torch.stack(sums)[None])

    expect_formula(llama, prompt, formula)
    trained = TOKENS * (TOKENS + WORDS) + (TOKENS + WORDS) * HIDDEN * train_words
    assert count(prompt) == trained


def test_it_starts_from_the_initialiser_and_mixes_words_of_the_vocabulary(llama: StreamLM) -> None:
    prompt = make(llama, *SUPERPOSED)
    assert isinstance(prompt, SuperposedPrompt)
    assert torch.equal(embeddings(prompt), embeddings(make(llama, "prompt=prompt_tuning")))
    table_VD = llama.spec.embedding_VD
    assert all((table_VD == word_D).all(dim=1).any() for word_D in prompt.words_WD[TOKENS:])
