"""Multitask prompts: initial values, parameters, and what a target task takes from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softcue.backbone.stream_lm import StreamLM
from softcue.build.prompted import build_prompt
from softcue.contracts import SoftPrompt
from softcue.data.template import compose
from softcue.errors import ConfigError
from softcue.formats.prompt_file import bank_to_bytes, load_bank, load_extra_state
from softcue.prompts.multitask import MultitaskPrompt
from tests.composing import train_config
from tests.tiny import HIDDEN, tiny_lm

TASK = "{Tweet text} :"


@pytest.fixture(scope="module")
def lm() -> StreamLM:
    return tiny_lm("llama")


def make(lm: StreamLM, *overrides: str) -> SoftPrompt:
    settings = train_config("prompt.layout='[soft:4]{input}'", *overrides)
    return build_prompt(settings, lm.spec, compose(settings.prompt.layout, TASK))


def source(lm: StreamLM, *overrides: str) -> MultitaskPrompt:
    prompt = make(lm, "prompt=multitask", "prompt.method.tasks=[one,two,three]", *overrides)
    assert isinstance(prompt, MultitaskPrompt)
    return prompt


def trained(lm: StreamLM, folder: Path, *overrides: str) -> MultitaskPrompt:
    """A source prompt with changed parameters, saved as a run saves it."""
    prompt = source(lm, *overrides)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    metadata = {"backbone": lm.spec.name, "layout": "[soft:4]{input}"}
    (folder / "prompt.safetensors").write_bytes(bank_to_bytes(prompt(), metadata, prompt.extra_state()))
    return prompt


@pytest.mark.parametrize("rank", [1, 3])
def test_every_task_starts_from_the_initialiser(lm: StreamLM, rank: int) -> None:
    plain = make(lm, "prompt=prompt_tuning")().embeddings_TPD
    bank_TPD = source(lm, f"prompt.method.rank={rank}")().embeddings_TPD
    assert plain is not None
    assert bank_TPD is not None
    assert torch.equal(bank_TPD, plain.expand(3, -1, -1))


@pytest.mark.parametrize("rank", [1, 3])
def test_the_number_of_parameters_is_the_closed_form(lm: StreamLM, rank: int) -> None:
    """P D shared, and r (P + D) for each task."""
    count = sum(p.numel() for p in source(lm, f"prompt.method.rank={rank}").parameters())
    assert count == 4 * HIDDEN + 3 * rank * (4 + HIDDEN)


def test_the_prompt_is_equation_one(lm: StreamLM, tmp_path: Path) -> None:
    prompt = trained(lm, tmp_path)
    bank_TPD = prompt().embeddings_TPD
    assert bank_TPD is not None
    for task in range(3):
        outer_PD = torch.outer(prompt.task_cols_TPr[task, :, 0], prompt.task_rows_TrD[task, 0])
        assert torch.allclose(bank_TPD[task], prompt.shared_PD * outer_PD)


def test_tasks_and_shared_prompt_have_their_own_learning_rates(lm: StreamLM) -> None:
    prompt = source(lm, "prompt.method.task_learning_rate=0.4")
    optimizer = torch.optim.AdamW(prompt.parameter_groups(), lr=0.3)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in (prompt.shared_PD, prompt.task_cols_TPr, prompt.task_rows_TrD)] == [
        0.3,
        0.4,
        0.4,
    ]
    assert {
        group["lr"] for group in torch.optim.AdamW(source(lm).parameter_groups(), lr=0.3).param_groups
    } == {0.3}


def test_factors_and_bank_are_read_from_one_file(lm: StreamLM, tmp_path: Path) -> None:
    prompt = trained(lm, tmp_path)
    factors = load_extra_state(tmp_path / "prompt.safetensors")
    assert factors.keys() == prompt.extra_state().keys()
    assert all(torch.equal(factors[name], tensor) for name, tensor in prompt.extra_state().items())
    assert load_bank(tmp_path / "prompt.safetensors")[0].num_prompts == 3


def test_a_target_starts_from_the_shared_prompt_times_the_average_or_ones(
    lm: StreamLM, tmp_path: Path
) -> None:
    prompt = trained(lm, tmp_path)
    arguments = ("prompt=multitask_target", f"prompt.source={tmp_path}", "prompt.method.tasks=[new]")
    fresh = make(lm, *arguments, "prompt.method.start=fresh")().embeddings_TPD
    average = make(lm, *arguments)().embeddings_TPD
    assert fresh is not None
    assert average is not None
    assert torch.equal(fresh[0], prompt.shared_PD)
    mean_PD = torch.outer(prompt.task_cols_TPr.mean(0)[:, 0], prompt.task_rows_TrD.mean(0)[0])
    assert torch.allclose(average[0], prompt.shared_PD * mean_PD)


def test_a_source_that_does_not_fit_is_refused(lm: StreamLM, tmp_path: Path) -> None:
    trained(lm, tmp_path)
    target = ("prompt=multitask_target", f"prompt.source={tmp_path}")
    with pytest.raises(ConfigError, match="the source's own layout, rank and backbone"):
        make(lm, *target, "prompt.method.rank=2")
    bank = make(lm, "prompt=prompt_tuning")()
    (tmp_path / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": lm.spec.name}))
    with pytest.raises(ConfigError, match="holds no shared prompt"):
        make(lm, *target)
    with pytest.raises(ConfigError, match=r"rank is 0; set it to 1 or more"):
        source(lm, "prompt.method.rank=0")
    with pytest.raises(ConfigError, match="choose average or fresh"):
        make(lm, *target, "prompt.method.start=mean")
