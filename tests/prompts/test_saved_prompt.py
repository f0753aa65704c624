"""Finished prompts taken up again: as they are, or as the start of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from softcue.backbone.stream_lm import StreamLM
from softcue.build.prompted import build_prompt
from softcue.contracts import PromptBank, SoftPrompt
from softcue.data.template import compose
from softcue.errors import ConfigError, RunError
from softcue.formats.peft import PeftType, adapter_files, multitask_adapter_files
from softcue.formats.prompt_file import bank_to_bytes
from softcue.prompts.saved_prompt import read_prompt
from tests.composing import train_config
from tests.tiny import HIDDEN, batch_of, score_classes, tiny_lm

TASK, TOKENS, LAYOUT = "{Tweet text} :", 4, "[soft:4]{input}"
HERE = 'prompt.layout="[soft:4]{input}"'
INITIALISER = "prompt/initialiser=saved"
DIRECT = ["prompt=prefix_tuning", "prompt.method.through_backbone=false"]


@pytest.fixture(scope="module")
def lm() -> StreamLM:
    return tiny_lm("llama")


@pytest.fixture
def embeddings() -> PromptBank:
    return PromptBank(embeddings_TPD=torch.randn(1, TOKENS, HIDDEN))


@pytest.fixture
def prefix(lm: StreamLM) -> PromptBank:
    shape = (1, lm.spec.num_layers, lm.spec.num_kv_heads, TOKENS, lm.spec.head_size)
    return PromptBank(keys_TLHPK=torch.randn(shape), values_TLHPK=torch.randn(shape))


def make(lm: StreamLM, *overrides: str, layout: str = HERE) -> SoftPrompt:
    settings = train_config(*overrides, layout)
    return build_prompt(settings, lm.spec, compose(settings.prompt.layout, TASK))


def save(bank: PromptBank, folder: Path, *, backbone: str = "tiny_llama", layout: str = LAYOUT) -> Path:
    metadata = {"backbone": backbone, "layout": layout}
    (folder / "prompt.safetensors").write_bytes(bank_to_bytes(bank, metadata))
    return folder


def save_adapter(bank: PromptBank, folder: Path, *, peft_type: PeftType = "PROMPT_TUNING") -> Path:
    for name, content in adapter_files(bank, peft_type=peft_type, base_model="tiny/llama").items():
        (folder / name).write_bytes(content)
    return folder


def same(one: PromptBank, other: PromptBank) -> bool:
    return one.tensors().keys() == other.tensors().keys() and all(
        torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items()
    )


@pytest.mark.parametrize("place", ["run", "file", "adapter"])
@pytest.mark.parametrize("form", ["embeddings", "prefix"])
def test_a_saved_prompt_is_the_one_that_was_saved(
    lm: StreamLM, form: str, place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    bank: PromptBank = request.getfixturevalue(form)
    if place == "adapter":
        path = save_adapter(
            bank, tmp_path, peft_type="PREFIX_TUNING" if form == "prefix" else "PROMPT_TUNING"
        )
    else:
        path = save(bank, tmp_path) / ("prompt.safetensors" if place == "file" else "")
    prompt = make(lm, "prompt=saved", f"prompt.path={path}")
    assert same(prompt(), bank)
    assert prompt.in_layers == (form == "prefix")
    assert list(prompt.parameters()) == []
    assert {name for name, _ in prompt.named_buffers()} == bank.tensors().keys()


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_a_method_started_from_a_saved_prompt_predicts_at_first_what_that_does(
    lm: StreamLM, method: str, embeddings: PromptBank, tmp_path: Path
) -> None:
    path = save(embeddings, tmp_path)
    prompt = make(lm, f"prompt={method}", INITIALISER, f"prompt.initialiser.path={path}")
    virtual = [-1 - k for k in range(TOKENS)]
    batch = batch_of([[*virtual, 5, 6], [*virtual, 5, 9, 8]], ((20, 21), (22,)))
    with torch.no_grad():
        found = score_classes(lm, prompt(), batch).log_likelihood_BC
        expected = score_classes(lm, embeddings, batch).log_likelihood_BC
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert all(parameter.requires_grad for parameter in prompt.parameters())


def test_keys_and_values_start_prefix_tuning_that_draws_them_directly(
    lm: StreamLM, prefix: PromptBank, tmp_path: Path
) -> None:
    path = save(prefix, tmp_path)
    assert same(make(lm, *DIRECT, INITIALISER, f"prompt.initialiser.path={path}")().detach(), prefix)


def test_p_tuning_takes_a_saved_prompt_into_its_encoder(
    lm: StreamLM, embeddings: PromptBank, tmp_path: Path
) -> None:
    path = save(embeddings, tmp_path)
    prompt = make(lm, "prompt=p_tuning", INITIALISER, f"prompt.initialiser.path={path}")
    assert embeddings.embeddings_TPD is not None
    assert torch.equal(prompt.get_parameter("input_PD"), embeddings.embeddings_TPD[0])


def test_a_task_of_a_multitask_adapter_is_chosen_by_its_number(lm: StreamLM, tmp_path: Path) -> None:
    task_rows_TrD = torch.randn(3, 1, HIDDEN)
    files = multitask_adapter_files(
        shared_PD=torch.ones(TOKENS, HIDDEN),
        task_cols_TPr=torch.ones(3, TOKENS, 1),
        task_rows_TrD=task_rows_TrD,
        base_model="tiny/llama",
    )
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    bank = make(lm, "prompt=saved", f"prompt.path={tmp_path}", "prompt.member=2")()
    assert bank.embeddings_TPD is not None
    assert torch.equal(bank.embeddings_TPD, task_rows_TrD[2:].expand(1, TOKENS, HIDDEN))
    with pytest.raises(ConfigError, match=r"holds 3 prompts and prompt\.member is None; .* from 0 to 2"):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}")
    with pytest.raises(ConfigError, match=r"holds 3 prompts and prompt\.member is 3"):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}", "prompt.member=3")


def test_a_prompt_for_another_backbone_is_refused_with_both_names(
    lm: StreamLM, embeddings: PromptBank, tmp_path: Path
) -> None:
    save(embeddings, tmp_path, backbone="bloomz_560m")
    with pytest.raises(
        ConfigError, match=r"prompt\.path=.* trained for bloomz_560m .* this run has tiny_llama"
    ):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}")
    with pytest.raises(ConfigError, match=r"prompt\.initialiser\.path=.* bloomz_560m .* tiny_llama"):
        make(lm, "prompt=prompt_tuning", INITIALISER, f"prompt.initialiser.path={tmp_path}")


def test_an_adapter_of_another_width_is_refused_with_both_sizes(lm: StreamLM, tmp_path: Path) -> None:
    save_adapter(PromptBank(embeddings_TPD=torch.zeros(1, TOKENS, 48)), tmp_path)
    with pytest.raises(
        ConfigError, match=r"trained for tiny/llama \({'hidden size': 48}\).*{'hidden size': 32}"
    ):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}")


def test_another_number_of_virtual_tokens_is_refused_with_the_layout_to_set(
    lm: StreamLM, embeddings: PromptBank, tmp_path: Path
) -> None:
    longer = 'prompt.layout="[soft:9]{input}"'
    save(embeddings, tmp_path)
    with pytest.raises(ConfigError, match=r"4 virtual tokens.*set prompt\.layout='\"\[soft:4\]{input}\"'"):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}", layout=longer)
    with pytest.raises(ConfigError, match=r"4 virtual tokens, and this prompt 9; set prompt\.layout="):
        make(lm, "prompt=prompt_tuning", INITIALISER, f"prompt.initialiser.path={tmp_path}", layout=longer)


def test_a_prompt_trained_for_another_place_in_the_row_is_refused(
    lm: StreamLM, embeddings: PromptBank, tmp_path: Path
) -> None:
    save(embeddings, tmp_path, layout="{input}[soft:4]")
    with pytest.raises(ConfigError, match=r"trained for layout '{input}\[soft:4\]'.*is '\[soft:4\]{input}'"):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}")


def test_a_form_that_the_method_does_not_start_from_is_refused(
    lm: StreamLM, embeddings: PromptBank, prefix: PromptBank, tmp_path: Path
) -> None:
    save(prefix, tmp_path)
    with pytest.raises(
        ConfigError, match=r"holds keys and values of .* prompt\.method\.through_backbone=false"
    ):
        make(lm, "prompt=prompt_tuning", INITIALISER, f"prompt.initialiser.path={tmp_path}")
    save(embeddings, tmp_path)
    with pytest.raises(ConfigError, match=r"holds embeddings of 32 numbers .* choose prompt=prompt_tuning"):
        make(lm, *DIRECT, INITIALISER, f"prompt.initialiser.path={tmp_path}")


def test_a_place_without_a_prompt_is_refused(lm: StreamLM, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"prompt\.path=.* holds no prompt; give the folder of a complete run"):
        make(lm, "prompt=saved", f"prompt.path={tmp_path}")


def test_a_released_npy_prompt_is_read_as_it_is(lm: StreamLM, tmp_path: Path) -> None:
    table_PD = np.random.default_rng(0).normal(size=(4, lm.spec.hidden_size)).astype(np.float32)
    np.save(tmp_path / "sst2.npy", table_PD)
    bank, layout = read_prompt(str(tmp_path / "sst2.npy"), spec=lm.spec, member=None, key="prompt")
    assert bank.embeddings_TPD is not None
    assert np.array_equal(bank.embeddings_TPD[0].numpy(), table_PD)
    assert layout is None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 3)), r"trained for None \({'hidden size': 3}\)"),
        (np.zeros(4), r"an array of float64 of shape \(4,\)"),
        (np.full((4, 32), np.nan), "NaN or infinite"),
        (np.array([[{}]], dtype=object), r"is no \.npy file of numbers"),
        (np.zeros((0, 32)), r"has shape \(0, 32\), so no number"),
    ],
)
def test_an_npy_file_that_is_no_prompt_is_refused(
    array: NDArray[Any], message: str, lm: StreamLM, tmp_path: Path
) -> None:
    np.save(tmp_path / "prompt.npy", array, allow_pickle=True)
    with pytest.raises((ConfigError, RunError), match=message):
        read_prompt(str(tmp_path / "prompt.npy"), spec=lm.spec, member=None, key="prompt")


def test_an_adapter_for_an_encoder_decoder_does_not_fit_a_decoder(lm: StreamLM, tmp_path: Path) -> None:
    bank = PromptBank(embeddings_TPD=torch.zeros(1, 4, lm.spec.hidden_size))
    files = adapter_files(bank, peft_type="PROMPT_TUNING", base_model="tiny", encoder_decoder=True)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"task_type SEQ_2_SEQ_LM, and tiny_llama is a decoder"):
        read_prompt(str(tmp_path), spec=lm.spec, member=None, key="prompt")
