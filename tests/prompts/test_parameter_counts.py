"""Exact parameter counts on a bloomz-560m with shapes but no weights."""

from __future__ import annotations

import pytest
import torch
from torch import Generator
from transformers import BloomConfig, BloomForCausalLM

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import BackboneSpec, SoftPrompt
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.p_tuning import PTuningLSTM, PTuningMLP
from softcue.prompts.prefix_tuning import PrefixTuning, ProjectedPrefixTuning
from softcue.prompts.prompt_tuning import PromptTuning
from softcue.runs.record import Parameters
from softcue.training.prompt_learner import parameters_line
from tests.tiny import tiny_tokenizer

START = RandomNormal(std=0.1)


@pytest.fixture(scope="module")
def bloomz_560m() -> BackboneSpec:
    config = BloomConfig(vocab_size=250_880, hidden_size=1024, n_layer=24, n_head=16)
    with torch.device("meta"):
        model = BloomForCausalLM(config)
    return StreamLM(model, tiny_tokenizer(), name="bloomz_560m").spec


def count(prompt: SoftPrompt) -> int:
    return sum(parameter.numel() for parameter in prompt.parameters())


def seed() -> Generator:
    return Generator().manual_seed(0)


def test_the_backbone_has_559_214_592_parameters(bloomz_560m: BackboneSpec) -> None:
    assert bloomz_560m.num_parameters == 559_214_592


def test_prompt_tuning_trains_its_embeddings(bloomz_560m: BackboneSpec) -> None:
    prompt = PromptTuning(spec=bloomz_560m, num_virtual_tokens=8, generator=seed(), initialiser=START)
    assert count(prompt) == 8 * 1024 == 8_192


@pytest.mark.parametrize(("hidden_size", "expected"), [(128, 300_288), (1024, 3_169_280)])
def test_p_tuning_mlp_trains_three_linear_layers(
    bloomz_560m: BackboneSpec, hidden_size: int, expected: int
) -> None:
    prompt = PTuningMLP(
        spec=bloomz_560m, num_virtual_tokens=20, generator=seed(), initialiser=START, hidden_size=hidden_size
    )
    assert count(prompt) == expected


@pytest.mark.parametrize(("hidden_size", "expected"), [(128, 1_926_400), (1024, 48_290_816)])
def test_p_tuning_lstm_trains_two_bidirectional_layers(
    bloomz_560m: BackboneSpec, hidden_size: int, expected: int
) -> None:
    prompt = PTuningLSTM(
        spec=bloomz_560m,
        num_virtual_tokens=20,
        generator=seed(),
        initialiser=START,
        hidden_size=hidden_size,
        num_layers=2,
        dropout=0.0,
    )
    assert count(prompt) == expected


@pytest.mark.parametrize(("num_tokens", "expected"), [(20, 983_040), (30, 1_474_560)])
def test_flat_prefix_tuning_trains_keys_and_values(
    bloomz_560m: BackboneSpec, num_tokens: int, expected: int
) -> None:
    prompt = PrefixTuning(
        spec=bloomz_560m,
        num_virtual_tokens=num_tokens,
        generator=seed(),
        initialiser=START,
        through_backbone=False,
    )
    assert count(prompt) == expected == num_tokens * bloomz_560m.key_value_width


def test_projected_prefix_tuning_trains_its_mlp(bloomz_560m: BackboneSpec) -> None:
    prompt = ProjectedPrefixTuning(
        spec=bloomz_560m, num_virtual_tokens=20, generator=seed(), initialiser=START, hidden_size=1024
    )
    assert count(prompt) == 51_450_880


def test_the_printed_line_has_the_format_of_peft(bloomz_560m: BackboneSpec) -> None:
    prompt = PTuningMLP(
        spec=bloomz_560m, num_virtual_tokens=20, generator=seed(), initialiser=START, hidden_size=128
    )
    shipped = sum(tensor.numel() for tensor in prompt().tensors().values())
    total = bloomz_560m.num_parameters + count(prompt)
    line = parameters_line(Parameters(trainable=count(prompt), shipped=shipped, total=total))
    assert line == "trainable params: 300,288 || all params: 559,514,880 || trainable%: 0.05366935013417338"
    assert shipped == 20 * 1024
