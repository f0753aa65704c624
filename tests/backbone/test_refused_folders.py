"""Folders that hold no language model with a fast tokenizer are refused in one sentence."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import pytest
from transformers import (
    ByT5Tokenizer,
    CanineTokenizer,
    CTRLTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from softcue.backbone.base import Backbone
from softcue.backbone.load import from_path
from softcue.errors import BackboneError
from tests.cases import slow_but
from tests.tiny import tiny_model, tiny_tokenizer


def llama(*, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=3,
        tie_word_embeddings=tied,
    )


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    )


def vit() -> PreTrainedModel:
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=32,
            patch_size=16,
        )
    )


def load(folder: Path) -> Backbone:
    return from_path(
        path=str(folder),
        name="mine",
        dtype="float32",
        engine="auto",
        gradient_checkpointing=False,
        cache_dir=str(folder.parent / "cache"),
    )


def saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
    model.save_pretrained(folder)
    return with_tokenizer(folder, tokenizer or tiny_tokenizer())


def with_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(BackboneError) as raised:
        load(folder)
    message = str(raised.value)
    assert message.startswith(str(folder))
    assert message.endswith(".")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("headless", [LlamaModel, LlamaForSequenceClassification])
def test_a_model_without_the_weights_of_its_head_is_refused(
    tmp_path: Path, headless: type[PreTrainedModel]
) -> None:
    message = refusal(saved(tmp_path, headless(llama())))
    assert "has no weights for lm_head.weight of LlamaForCausalLM" in message


def test_a_model_without_other_weights_is_refused(tmp_path: Path) -> None:
    model = LlamaForCausalLM(llama())
    kept = {name: one for name, one in model.state_dict().items() if "mlp" not in name}
    model.save_pretrained(tmp_path, state_dict=kept)
    message = refusal(with_tokenizer(tmp_path, tiny_tokenizer()))
    assert "has no weights for model.layers.0.mlp.down_proj.weight and 2 others of" in message


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_a_model_whose_head_is_its_embedding_needs_no_other(tmp_path: Path, family: str) -> None:
    """Like gpt2 and bloom on the hub, which were saved without their heads."""
    model = LlamaForCausalLM(llama(tied=True)) if family == "llama" else tiny_model(family)
    headless = cast(PreTrainedModel, model.base_model)
    assert load(saved(tmp_path, headless)).engine == "stream"


def test_a_model_that_is_no_language_model_is_refused(tmp_path: Path) -> None:
    message = refusal(saved(tmp_path, vit()))
    assert "cannot be loaded as a language model" in message
    assert "ViTConfig" in message


def test_an_encoder_decoder_needs_a_token_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"T5ForConditionalGeneration has no decoder_start_token_id"):
        load(saved(tmp_path, t5()))


def ctrl_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    (folder / "words.json").write_text(json.dumps({"a": 0, "b</w>": 1, "<unk>": 2}))
    (folder / "merges").write_text("#version: 0.2\na b</w>\n")
    return CTRLTokenizer(str(folder / "words.json"), str(folder / "merges"))


@pytest.mark.parametrize(
    "name", slow_but(["ByT5Tokenizer"], ["CanineTokenizer", "ByT5Tokenizer", "CTRLTokenizer"])
)
def test_a_slow_tokenizer_is_refused(tmp_path: Path, name: str) -> None:
    tokenizer = {"CanineTokenizer": CanineTokenizer, "ByT5Tokenizer": ByT5Tokenizer}.get(name)
    slow = ctrl_tokenizer(tmp_path) if tokenizer is None else tokenizer()
    assert f"has only the slow tokenizer {name}" in refusal(saved(tmp_path, tiny_model("llama"), slow))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, family: str) -> None:
    """GPT-2's tokenizer loads without its files, with an empty vocabulary."""
    tiny_model(family).save_pretrained(tmp_path)
    assert "no tokenizer that transformers can read. Put the model's tokenizer.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("package", "quantisation"),
    [
        ("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("optimum", {"quant_method": "gptq", "bits": 4}),
        ("gptqmodel", {"quant_method": "awq", "bits": 4}),
    ],
)
def test_a_quantised_model_without_its_package_is_refused(
    tmp_path: Path, package: str, quantisation: dict[str, object]
) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    config = saved(tmp_path, LlamaForCausalLM(llama())) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": quantisation}))
    message = refusal(tmp_path)
    assert "needs a package that is not installed" in message
    assert package in message
