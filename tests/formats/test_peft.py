"""PEFT is the oracle: it predicts with our adapters what we predict, and we with its own what it predicts."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
    PromptLearningConfig,
    PromptTuningConfig,
    TaskType,
    bloom_model_postprocess_past_key_value,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError, RunError
from softcue.formats.peft import CONFIG, WEIGHTS, PeftType, adapter_files, multitask_adapter_files
from softcue.formats.peft_reader import open_adapter
from softcue.formats.peft_tensors import PICKLED_WEIGHTS
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.p_tuning import PTuningLSTM, PTuningMLP
from softcue.prompts.prefix_tuning import PrefixTuning, ProjectedPrefixTuning
from softcue.prompts.prompt_tuning import PromptTuning
from tests.tiny import HIDDEN, batch_of, tiny_model, tiny_tokenizer

TOKENS, WIDTH, TASKS, RANK = 4, 24, 3, 2
ROW, LABEL = [5, 6, 7, 8], [20, 21, 22]
FAMILIES = ("bloom", "llama")


def common(spec: BackboneSpec) -> dict[str, Any]:
    return {
        "spec": spec,
        "num_virtual_tokens": TOKENS,
        "generator": Generator().manual_seed(0),
        "initialiser": RandomNormal(std=0.3),
    }


OURS: dict[str, tuple[PeftType, Callable[[BackboneSpec], SoftPrompt]]] = {
    "prompt tuning": ("PROMPT_TUNING", lambda spec: PromptTuning(**common(spec))),
    "P-tuning MLP": ("P_TUNING", lambda spec: PTuningMLP(**common(spec), hidden_size=WIDTH)),
    "P-tuning LSTM": (
        "P_TUNING",
        lambda spec: PTuningLSTM(**common(spec), hidden_size=WIDTH, num_layers=2, dropout=0.0),
    ),
    "prefix tuning": ("PREFIX_TUNING", lambda spec: PrefixTuning(**common(spec), through_backbone=False)),
    "prefix tuning through the backbone": (
        "PREFIX_TUNING",
        lambda spec: PrefixTuning(**common(spec), through_backbone=True),
    ),
    "projected prefix tuning": (
        "PREFIX_TUNING",
        lambda spec: ProjectedPrefixTuning(**common(spec), hidden_size=WIDTH),
    ),
}
LSTM = PromptEncoderReparameterizationType.LSTM
THEIRS: dict[str, Callable[..., PromptLearningConfig]] = {
    "prompt tuning": PromptTuningConfig,
    "P-tuning MLP": lambda **shared: PromptEncoderConfig(**shared, encoder_hidden_size=WIDTH),
    "P-tuning LSTM": lambda **shared: PromptEncoderConfig(
        **shared, encoder_hidden_size=WIDTH, encoder_reparameterization_type=LSTM
    ),
    "prefix tuning": PrefixTuningConfig,
    "projected prefix tuning": lambda **shared: PrefixTuningConfig(
        **shared, prefix_projection=True, encoder_hidden_size=WIDTH
    ),
    "multitask prompt tuning": lambda **shared: MultitaskPromptTuningConfig(
        **shared, num_tasks=TASKS, num_ranks=RANK
    ),
}


def frozen(family: str) -> StreamLM:
    return StreamLM(tiny_model(family), tiny_tokenizer(), name=family)


def our_logits(family: str, bank: PromptBank, *, prompt: int = 0) -> Tensor:
    """At the places that predict a label token."""
    lm = frozen(family)
    virtual = [-1 - k for k in range(TOKENS)]
    batch = batch_of([virtual + ROW], (tuple(LABEL),), prompts=[prompt])
    with torch.no_grad():
        return lm.logits(lm.states(bank, batch, batch.choices).hidden_MD)


def their_logits(theirs: nn.Module, **task: Tensor) -> Tensor:
    """The same places through PEFT's model."""
    ids = torch.tensor([ROW + LABEL])
    with torch.no_grad():
        logits: Tensor = theirs(input_ids=ids, attention_mask=torch.ones_like(ids), **task).logits
    return logits[0, -len(LABEL) - 1 : -1]


def folded(prompt: SoftPrompt) -> PromptBank:
    with torch.no_grad():
        bank: PromptBank = prompt.eval()().detach()
    return bank


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def peft_model(family: str, name: str) -> PeftModel:
    """A fresh model of PEFT's own, its prompt spread widely enough for differences to show."""
    torch.manual_seed(7)
    config = THEIRS[name](task_type=TaskType.CAUSAL_LM, num_virtual_tokens=TOKENS)
    model = get_peft_model(tiny_model(family), config)
    with torch.no_grad():
        for parameter_name, parameter in model.prompt_encoder["default"].named_parameters():
            if "prefix_task" in parameter_name:
                parameter.mul_(50)
    model.eval()
    return model


def task_ids(name: str, task: int) -> dict[str, Tensor]:
    return {"task_ids": torch.tensor([task])} if name == "multitask prompt tuning" else {}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OURS)
def test_peft_predicts_with_our_adapter_what_we_predict(family: str, name: str, tmp_path: Path) -> None:
    peft_type, make = OURS[name]
    bank = folded(make(frozen(family).spec))
    write(tmp_path, adapter_files(bank, peft_type=peft_type, base_model=family))
    theirs = PeftModel.from_pretrained(tiny_model(family), tmp_path)
    assert theirs.peft_config["default"].peft_type == peft_type
    torch.testing.assert_close(their_logits(theirs), our_logits(family, bank), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OURS)
def test_an_adapter_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    peft_type, make = OURS[name]
    bank = folded(make(frozen("llama").spec))
    adapter = open_adapter(write(tmp_path, adapter_files(bank, peft_type=peft_type, base_model="llama")))
    assert adapter.config.base_model_name_or_path == "llama"
    assert adapter.bank().tensors().keys() == bank.tensors().keys()
    for field, tensor in bank.tensors().items():
        assert torch.equal(adapter.bank().tensors()[field], tensor), field


@pytest.mark.parametrize("name", OURS)
def test_peft_saves_our_adapter_again_with_the_same_numbers(name: str, tmp_path: Path) -> None:
    peft_type, make = OURS[name]
    bank = folded(make(frozen("llama").spec))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    write(first, adapter_files(bank, peft_type=peft_type, base_model="llama"))
    PeftModel.from_pretrained(tiny_model("llama"), first).save_pretrained(
        str(second), save_embedding_layers=False
    )
    before, after = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_multitask_adapter_of_ours_gives_each_task_its_prompt_in_peft(family: str, tmp_path: Path) -> None:
    generator = Generator().manual_seed(0)
    shared_PD = torch.randn(TOKENS, HIDDEN, generator=generator)
    task_cols_TPr = torch.randn(TASKS, TOKENS, RANK, generator=generator)
    task_rows_TrD = torch.randn(TASKS, RANK, HIDDEN, generator=generator)
    files = multitask_adapter_files(
        shared_PD=shared_PD, task_cols_TPr=task_cols_TPr, task_rows_TrD=task_rows_TrD, base_model=family
    )
    bank = open_adapter(write(tmp_path, files)).bank()
    assert bank.embeddings_TPD is not None
    assert torch.equal(bank.embeddings_TPD, shared_PD * (task_cols_TPr @ task_rows_TrD))
    theirs = PeftModel.from_pretrained(tiny_model(family), tmp_path)
    for task in range(TASKS):
        expected = our_logits(family, bank, prompt=task)
        found = their_logits(theirs, task_ids=torch.tensor([task]))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", THEIRS)
def test_an_adapter_that_peft_saved_predicts_in_ours_as_in_peft(
    family: str, name: str, tmp_path: Path
) -> None:
    theirs = peft_model(family, name)
    theirs.save_pretrained(str(tmp_path))
    bank = open_adapter(tmp_path).bank()
    for task in range(bank.num_prompts):
        expected = their_logits(theirs, **task_ids(name, task))
        torch.testing.assert_close(our_logits(family, bank, prompt=task), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", THEIRS)
def test_a_checkpoint_of_the_whole_peft_model_is_read_with_its_encoder_folded(
    name: str, prefix: str, tmp_path: Path
) -> None:
    theirs = peft_model("llama", name)
    theirs.save_pretrained(str(tmp_path))
    expected = open_adapter(tmp_path).bank().tensors()
    state = {f"{prefix}{key}": tensor.clone() for key, tensor in theirs.state_dict().items()}
    assert any("base_model" in key for key in state), "the frozen model's weights stand beside the prompt's"
    save_file(state, tmp_path / WEIGHTS)
    found = open_adapter(tmp_path).bank().tensors()
    assert found.keys() == expected.keys()
    for field, tensor in expected.items():
        torch.testing.assert_close(found[field], tensor, rtol=0, atol=1e-6)


def test_older_key_layouts_are_read(tmp_path: Path) -> None:
    peft_model("llama", "prompt tuning").save_pretrained(str(tmp_path))
    expected = open_adapter(tmp_path).bank().embeddings_TPD
    assert expected is not None
    for key in (
        "prompt_encoder.default.embedding.weight",
        "prompt_encoder.embedding.weight",
        "base_model.prompt_encoder.default.embedding.weight",
        "base_model.prompt_embeddings",
    ):
        save_file({key: expected[0]}, tmp_path / WEIGHTS)
        found = open_adapter(tmp_path).bank().embeddings_TPD
        assert found is not None, key
        assert torch.equal(found, expected), key


def test_a_prefix_that_peft_trained_on_bloom_of_old_has_its_order_then(tmp_path: Path) -> None:
    theirs = peft_model("bloom", "prefix tuning")
    theirs.save_pretrained(str(tmp_path))
    config = open_adapter(tmp_path).config
    assert config.num_attention_heads is not None
    flat_PW = load_file(tmp_path / WEIGHTS)["prompt_embeddings"]
    heads, head_size = config.num_attention_heads, config.token_dim // config.num_attention_heads
    # PEFT's own function of then, which gave BLOOM keys as [H, K, P].
    pairs = flat_PW.view(1, TOKENS, -1, heads, head_size).permute(2, 0, 3, 1, 4).split(2)
    bank = open_adapter(tmp_path, old_bloom=True).bank()
    assert bank.keys_TLHPK is not None
    assert bank.values_TLHPK is not None
    for layer, (keys_HKP, values_HPK) in enumerate(bloom_model_postprocess_past_key_value(pairs)):
        assert torch.equal(bank.keys_TLHPK[0, layer], keys_HKP.transpose(1, 2))
        assert torch.equal(bank.values_TLHPK[0, layer], values_HPK)


def test_a_pickle_of_tensors_is_read(tmp_path: Path) -> None:
    peft_model("llama", "prefix tuning").save_pretrained(str(tmp_path))
    expected = open_adapter(tmp_path).bank().tensors()
    torch.save(load_file(tmp_path / WEIGHTS), tmp_path / PICKLED_WEIGHTS)
    (tmp_path / WEIGHTS).unlink()
    found = open_adapter(tmp_path).bank().tensors()
    assert all(torch.equal(found[field], tensor) for field, tensor in expected.items())


class Payload:
    """Pickled, it asks the reader to touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))]
)
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(
    save: Callable[[object, Path], object], tmp_path: Path
) -> None:
    write(tmp_path, adapter_files(PROMPT, peft_type="PROMPT_TUNING", base_model="tiny"))
    (tmp_path / WEIGHTS).unlink()
    touched = tmp_path / "touched"
    save(
        {"prompt_embeddings": torch.zeros(TOKENS, HIDDEN), "more": Payload(touched)},
        tmp_path / PICKLED_WEIGHTS,
    )
    with pytest.raises(RunError, match=r"adapter_model\.bin is a pickle of more than tensors"):
        open_adapter(tmp_path).bank()
    assert not touched.exists()
    assert pickle.loads(pickle.dumps(Payload(touched))) is None
    assert touched.exists(), "the payload itself works"


PROMPT = PromptBank(embeddings_TPD=torch.zeros(1, TOKENS, HIDDEN))
LORA = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8}
SEQ2SEQ = {
    "peft_type": "PROMPT_TUNING",
    "task_type": "SEQ_2_SEQ_LM",
    "num_virtual_tokens": TOKENS,
    "token_dim": HIDDEN,
    "num_transformer_submodules": 3,
}
LONGER = {**SEQ2SEQ, "task_type": "CAUSAL_LM", "num_transformer_submodules": 1, "num_virtual_tokens": 9}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LORA, r"adapter_config\.json is not that of a soft prompt: peft_type is 'LORA' .*PROMPT_TUNING"),
        (SEQ2SEQ, r"has num_transformer_submodules 3; it is 1, or 2 for an encoder and a decoder"),
        (LONGER, r"holds tensors .*\(4, 32\).* describes .*\(9, 32\)"),
    ],
)
def test_an_adapter_that_is_no_prompt_is_refused(
    config: dict[str, object], message: str, tmp_path: Path
) -> None:
    write(tmp_path, adapter_files(PROMPT, peft_type="PROMPT_TUNING", base_model="tiny"))
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(RunError, match=message):
        open_adapter(tmp_path).bank()


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"adapter_config\.json is not a file"):
        open_adapter(tmp_path)
    write(tmp_path, adapter_files(PROMPT, peft_type="PROMPT_TUNING", base_model="tiny"))
    (tmp_path / WEIGHTS).write_bytes(b"half")
    with pytest.raises(RunError, match=r"adapter_model\.safetensors is not a readable safetensors file"):
        open_adapter(tmp_path).bank()
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(RunError, match=r"has neither adapter_model\.safetensors nor adapter_model\.bin"):
        open_adapter(tmp_path).bank()


@pytest.mark.parametrize("bank", [PromptBank(), PromptBank.concat([PROMPT, PROMPT], vote="majority")])
def test_only_one_prompt_becomes_an_adapter(bank: PromptBank) -> None:
    with pytest.raises(ConfigError, match=r"holds one prompt, and this bank has [02]"):
        adapter_files(bank, peft_type="PROMPT_TUNING", base_model="tiny")
