"""The contract of every soft-prompt method, discovered from conf/prompt/*.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softcue.backbone.stream_lm import StreamLM
from softcue.build.prompted import build_prompt
from softcue.contracts import Demonstration, PromptBank, SoftPrompt, TrainingRows
from softcue.data.template import compose
from softcue.formats.prompt_file import bank_to_bytes, load_bank
from tests.composing import options, train_config
from tests.tiny import batch_of, score_targets, tiny_lm

TASK = "{Tweet text} :"
METHODS = options("prompt")
# For methods that read the training rows: more tokens than any of them takes.
ROWS = TrainingRows(
    gradients=lambda vectors_PD: torch.ones(1, *vectors_PD.shape),
    demonstrations=tuple(
        Demonstration(ids=(5, at), is_text=(False, True), label=(20,)) for at in range(6, 50)
    ),
)
# Settings without a default: paths of the finished prompts that some methods are made from.
# At zero gates a prefix itself has no gradient, as in the paper.
GIVEN: dict[str, list[str]] = {"prefix_tuning_gated": ["prompt.method.gate=0.3"]}


@pytest.fixture(scope="module")
def lm() -> StreamLM:
    return tiny_lm("llama")


@pytest.fixture(scope="module", autouse=True)
def finished(lm: StreamLM, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A run's folder with a prompt of 20 virtual tokens: a shared prompt times factors of rank 2."""
    folder = tmp_path_factory.mktemp("run")
    factors = {
        "shared_PD": torch.randn(20, lm.spec.hidden_size),
        "task_cols_TPr": torch.randn(1, 20, 2),
        "task_rows_TrD": torch.randn(1, 2, lm.spec.hidden_size),
    }
    bank = PromptBank(
        embeddings_TPD=factors["shared_PD"] * (factors["task_cols_TPr"] @ factors["task_rows_TrD"])
    )
    about = {"layout": "[soft:20]{input}", "task": "tweets", "template": TASK, "verbalizer": "{}"}
    prompt = bank_to_bytes(bank, {"backbone": lm.spec.name, **about}, factors)
    (folder / "prompt.safetensors").write_bytes(prompt)
    GIVEN["saved"] = [f"prompt.path={folder}"]
    GIVEN["ensemble"] = [f"prompt.runs=[{folder},{folder}]"]
    GIVEN["attempt"] = [f"prompt.sources=[{folder},{folder}]"]
    GIVEN["xprompt"] = [f"prompt.source={folder}"]
    GIVEN["multitask_target"] = [f"prompt.source={folder}", "prompt.method.rank=2"]


def make(lm: StreamLM, method: str, *overrides: str) -> SoftPrompt:
    settings = train_config(f"prompt={method}", *GIVEN.get(method, []), *overrides)
    return build_prompt(settings, lm.spec, compose(settings.prompt.layout, TASK), rows=ROWS)


def num_virtual_tokens(method: str) -> int:
    return compose(train_config(f"prompt={method}").prompt.layout, TASK).num_virtual_tokens


@pytest.mark.parametrize("method", METHODS)
def test_the_bank_has_as_many_virtual_tokens_as_the_layout(lm: StreamLM, method: str) -> None:
    prompt = make(lm, method)
    bank = prompt()
    assert set(bank.num_virtual_tokens) == {num_virtual_tokens(method)}
    assert (bank.keys_TLHPK is not None) == prompt.in_layers


@pytest.mark.parametrize("method", METHODS)
def test_parameters_and_bank_are_fp32(lm: StreamLM, method: str) -> None:
    prompt = make(lm, method)
    assert {p.dtype for p in prompt.parameters()} <= {torch.float32}
    assert {t.dtype for t in prompt().tensors().values()} <= {torch.float32}


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_receives_a_gradient(lm: StreamLM, method: str) -> None:
    prompt = make(lm, method)
    virtual = [-1 - k for k in range(num_virtual_tokens(method))]
    batch = batch_of([[*virtual, 5, 6], [*virtual, 5, 9, 8]], ((20, 21), (22,)), targets=[0, 1])
    if list(prompt.parameters()):
        score_targets(lm, prompt(), batch).log_likelihood_BC.sum().backward()
    assert [name for name, p in prompt.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("method", METHODS)
def test_the_initial_prompt_depends_on_the_seed_alone(lm: StreamLM, method: str) -> None:
    def start(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed + 17)  # the global generator must not matter
        prompt = make(lm, method, f"seed={seed}", *RANDOM.get(method, []))
        # A method without parameters has nothing to draw.
        return [*prompt.state_dict().values()] if list(prompt.parameters()) else []

    first, again, other = start(0), start(0), start(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if first and method != "xprompt":  # which starts from its source
        assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


# Methods that start from a text do not depend on the seed.
RANDOM = {
    method: ["prompt/initialiser=random_normal"]
    for method in (
        *("prompt_tuning", "prompt_tuning_suffix", "prefix_tuning", "multitask"),
        *("low_rank", "prefix_tuning_gated", "late", "prefix_tuning_late"),
    )
} | {
    "multitask_target": ["prompt.method.start=fresh"],
    # Built without the check that refuses it: a sink is a text's.
    "cartridge": ["prompt/initialiser=random_normal"],
}


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_prompt_is_read_back_to_the_bit(lm: StreamLM, method: str, tmp_path: Path) -> None:
    bank = make(lm, method).eval()().detach()
    (tmp_path / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": "tiny"}))
    back, metadata = load_bank(tmp_path / "prompt.safetensors")
    vote = {"vote": bank.vote} if bank.vote else {}
    layer = {"first_layer": str(bank.first_layer)} if bank.first_layer else {}
    row_rule = {"row_rule": bank.row_rule.kind} if bank.row_rule else {}
    assert metadata == {"backbone": "tiny", **vote, **layer, **row_rule}
    assert (back.vote, back.first_layer) == (bank.vote, bank.first_layer)
    assert back.tensors().keys() == bank.tensors().keys()
    assert all(torch.equal(back.tensors()[name], tensor) for name, tensor in bank.tensors().items())


def test_only_words_and_finished_prompts_have_no_parameters(lm: StreamLM) -> None:
    fixed = ["ensemble", "hard_prompt", "saved"]
    assert [m for m in METHODS if not list(make(lm, m).parameters())] == fixed
    assert make(lm, "hard_prompt")() == PromptBank()
