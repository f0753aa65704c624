"""Cartridges against the text that they start as, and against PEFT's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from peft import CartridgeConfig, TaskType, get_peft_model
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.configs.combinations import expect_possible
from softcue.contracts import PromptBank
from softcue.errors import ConfigError
from softcue.formats.peft import flattened
from softcue.prompts.cartridge import Cartridge
from tests.prompts.formulas import TOKENS, count, expect_formula, make
from tests.tiny import batch_of, score_targets, tiny_model

CARTRIDGE = ("prompt=cartridge", "prompt.initialiser.text=w7 w8 w9 w10 w11")
TEXT = [7, 8, 9, 10]
ROWS, LABEL = [[5, 6, 7], [9, 9, 4]], (20, 21)


def of_rows() -> list[list[int]]:
    return [[-1 - k for k in range(TOKENS)] + row for row in ROWS]


@pytest.mark.parametrize("num_frozen", [0, 1, 3])
def test_prompt_and_gradients_are_those_of_frozen_and_trained_tokens(
    llama: StreamLM, num_frozen: int
) -> None:
    prompt = make(llama, *CARTRIDGE, f"prompt.method.num_frozen={num_frozen}")
    keys_LHPK, values_LHPK = llama.spec.key_values(llama.spec.embedding_VD[TEXT])

    def formula(of: Mapping[str, Tensor]) -> PromptBank:
        trained = [of["keys_LHpK"].unbind(2), of["values_LHpK"].unbind(2)]
        frozen = [whole.unbind(2)[:num_frozen] for whole in (keys_LHPK, values_LHPK)]
        keys, values = (torch.stack([*own, *new], 2) for own, new in zip(frozen, trained, strict=True))
        return PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None])

    expect_formula(llama, prompt, formula)
    assert count(prompt) == (TOKENS - num_frozen) * llama.spec.key_value_width


def test_it_starts_as_the_text_in_front_of_the_row(llama: StreamLM) -> None:
    prompt = make(llama, *CARTRIDGE)
    with torch.no_grad():
        found = score_targets(llama, prompt(), batch_of(of_rows(), (LABEL,)))
        told = score_targets(llama, PromptBank(), batch_of([TEXT + row for row in ROWS], (LABEL,)))
    torch.testing.assert_close(found.log_likelihood_BC, told.log_likelihood_BC, rtol=0, atol=1e-5)


def test_scores_and_gradients_equal_pefts(llama: StreamLM) -> None:
    torch.manual_seed(1)
    config = CartridgeConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=TOKENS, num_frozen_tokens=1)
    theirs = get_peft_model(tiny_model("llama"), config)
    prompt = make(llama, *CARTRIDGE)
    assert isinstance(prompt, Cartridge)
    bank = prompt()
    assert bank.keys_TLHPK is not None
    assert bank.values_TLHPK is not None
    encoder: Any = theirs.prompt_encoder["default"]
    encoder.load_prompt_embeddings(flattened(bank.keys_TLHPK[0], bank.values_TLHPK[0]).detach())
    ids = torch.tensor([[*row, *LABEL] for row in ROWS])
    logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    log_probs = logits[:, -3:-1].log_softmax(-1).gather(2, torch.tensor(LABEL).expand(2, 2)[..., None])
    ours = score_targets(llama, bank, batch_of(of_rows(), (LABEL,))).log_likelihood_BC
    torch.testing.assert_close(ours[:, 0], log_probs.sum(dim=(1, 2)), rtol=0, atol=1e-5)
    log_probs.sum().backward()
    ours.sum().backward()
    assert prompt.keys_LHpK.grad is not None
    assert prompt.values_LHpK.grad is not None
    gradient = flattened(prompt.keys_LHpK.grad, prompt.values_LHpK.grad)
    expected = encoder.trainable_embedding.grad
    assert (gradient - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(
    ("start", "num_frozen", "message"),
    [
        ("RandomNormal", 1, r"prompt\.initialiser is RandomNormal, .* set prompt/initialiser=text"),
        ("Text", 4, r"prompt\.method\.num_frozen is 4, which leaves none of the 4 virtual tokens"),
    ],
)
def test_a_sink_without_a_text_or_without_a_prompt_behind_it_is_refused(
    start: str, num_frozen: int, message: str
) -> None:
    method = {
        "_target_": "softcue.prompts.cartridge.Cartridge",
        "initialiser": {"_target_": f"softcue.prompts.initialisers.{start}"},
        "num_frozen": num_frozen,
    }
    with pytest.raises(ConfigError, match=message):
        expect_possible(method, num_virtual_tokens=4)
