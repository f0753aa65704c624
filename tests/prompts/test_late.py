"""Prompts that enter above the first layer: where they start, what they train, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.errors import ConfigError, RunError
from softcue.formats.prompt_file import bank_to_bytes, load_bank
from tests.prompts.formulas import TOKENS, count, embeddings, make
from tests.tiny import HIDDEN, LAYERS, tiny_model

LATE, PREFIX = "prompt=late", "prompt=prefix_tuning_late"
AT = "prompt.method.first_layer"


def save(bank: PromptBank, folder: Path) -> Path:
    (folder / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": "tiny_llama"}))
    return folder


def made(lm: StreamLM, *overrides: str) -> PromptBank:
    bank: PromptBank = make(lm, *overrides)()
    return bank.detach()


def vectors(bank: PromptBank) -> Tensor:
    assert bank.embeddings_TPD is not None
    return bank.embeddings_TPD[0]


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_late_prompt_starts_as_the_models_own_states_of_its_words(llama: StreamLM, layer: int) -> None:
    words_PD = made(llama, "prompt=prompt_tuning").embeddings_TPD
    with torch.no_grad():
        run = cast(nn.Module, tiny_model("llama"))(inputs_embeds=words_PD, output_hidden_states=True)
    bank = made(llama, LATE, f"{AT}={layer}")
    assert bank.first_layer == layer
    torch.testing.assert_close(bank.embeddings_TPD, run.hidden_states[layer])


def test_a_step_changes_states_as_many_times_more_as_they_are_larger_than_embeddings(llama: StreamLM) -> None:
    words, states = made(llama, "prompt=prompt_tuning"), made(llama, LATE, f"{AT}=2")
    prompt = make(llama, LATE, f"{AT}=2")
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(0.1)
    ours_PD, words_PD, states_PD = embeddings(prompt), vectors(words), vectors(states)
    expected = 0.1 * states_PD.abs().median() / words_PD.abs().median()
    torch.testing.assert_close(ours_PD - states_PD, expected.expand_as(ours_PD), rtol=1e-4, atol=1e-6)


def test_a_late_prefix_starts_as_the_upper_layers_of_prefix_tuning(llama: StreamLM) -> None:
    whole, late = made(llama, "prompt=prefix_tuning"), made(llama, PREFIX, f"{AT}=2")
    assert whole.keys_TLHPK is not None
    assert late.keys_TLHPK is not None
    assert torch.equal(late.keys_TLHPK, whole.keys_TLHPK[:, 2:])


def test_as_many_numbers_are_trained_as_the_files_say(llama: StreamLM) -> None:
    assert count(make(llama, LATE)) == TOKENS * HIDDEN
    spec = llama.spec
    by_layer = spec.num_kv_heads * (spec.head_size + spec.value_size)
    for layer in range(LAYERS):
        assert count(make(llama, PREFIX, f"{AT}={layer}")) == TOKENS * (LAYERS - layer) * by_layer


@pytest.mark.parametrize("method", [LATE, PREFIX])
def test_null_is_the_middle_layer(llama: StreamLM, method: str) -> None:
    assert made(llama, method).first_layer == LAYERS // 2


@pytest.mark.parametrize("method", [LATE, PREFIX])
def test_a_layer_beyond_the_last_is_refused_by_name(llama: StreamLM, method: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"{AT} is 3, and backbone tiny_llama has 3 layers: choose .* 0 to 2"
    ):
        make(llama, method, f"{AT}=3")


@pytest.mark.parametrize("method", [LATE, PREFIX])
def test_a_saved_late_prompt_enters_at_its_layer_again(llama: StreamLM, method: str, tmp_path: Path) -> None:
    bank = made(llama, method, f"{AT}=2")
    back = made(llama, "prompt=saved", f"prompt.path={save(bank, tmp_path)}")
    assert back.first_layer == 2
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in bank.tensors().items())


@pytest.mark.parametrize(
    "asked",
    [
        ("prompt=prompt_tuning", "prompt/initialiser=saved", "prompt.initialiser.path={folder}"),
        ("prompt=p_tuning", "prompt/initialiser=saved", "prompt.initialiser.path={folder}"),
    ],
)
def test_no_other_method_starts_from_a_late_prompt(
    llama: StreamLM, asked: tuple[str, ...], tmp_path: Path
) -> None:
    save(made(llama, LATE), tmp_path)
    with pytest.raises(ConfigError, match="enters at layer 1, where no other method starts"):
        make(llama, *(text.format(folder=tmp_path) for text in asked))


def test_a_prompt_file_with_a_layer_that_the_model_lacks_is_refused(llama: StreamLM, tmp_path: Path) -> None:
    save(replace(made(llama, LATE), first_layer=7), tmp_path)
    with pytest.raises(
        ConfigError, match="the prompt's first layer is 7, and backbone tiny_llama has 3 layers"
    ):
        make(llama, "prompt=saved", f"prompt.path={tmp_path}")


@pytest.mark.parametrize("text", ["-1", "two", "٣", "1" * 40])
def test_a_prompt_file_whose_layer_is_no_number_is_refused(text: str, tmp_path: Path) -> None:
    bank = PromptBank(embeddings_TPD=torch.ones(1, 2, 3))
    (tmp_path / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"first_layer": text}))
    with pytest.raises(RunError, match="which is no layer"):
        load_bank(tmp_path / "prompt.safetensors")
