"""Which engine runs a model and why, and that a model refused by the stream is unchanged."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone import verify
from softcue.backbone.base import Backbone
from softcue.backbone.engine import make_backbone
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.probes import in_dtype
from softcue.backbone.scoring import TargetStates
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, Choices, PromptBank
from softcue.errors import BackboneError, ConfigError
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.prefix_tuning import PrefixTuning
from tests.backbone.zoo import oracle_scores, tiny
from tests.tiny import batch_of, score_classes, tiny_model, tiny_tokenizer

LABELS = ((20, 21), (24,))
ROWS = [[5, 6, 7, 8], [9, 10, 11, 12, 13]]


def load(model: PreTrainedModel, *, engine: str = "auto") -> Backbone:
    return make_backbone(model, tiny_tokenizer(), name="tiny", engine=engine)


def logits_of(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return cast(Tensor, cast(nn.Module, model)(input_ids=torch.tensor(ROWS[:1])).logits)


def test_the_engine_and_its_reason_are_one_line() -> None:
    assert [load(tiny(family)).choice for family in ("llama", "cohere", "diffllama")] == [
        "tiny (LlamaForCausalLM) runs on the stream engine: softcue's tests verify this family",
        "tiny (CohereForCausalLM) runs on the stream engine: it gives the results of the model's own forward",
        "tiny (DiffLlamaForCausalLM) runs on the plain engine: layer 0 calls attention more than once",
    ]


def test_a_comparison_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load(tiny("llama"))
        load(tiny("cohere"))
    assert caplog.messages == ["tiny (CohereForCausalLM) is compared with its own forward"]


@pytest.mark.parametrize("family", ["gpt_oss", "diffllama", "mamba", "gptj"])
def test_a_model_that_the_stream_cannot_run_is_unchanged(family: str) -> None:
    model = tiny(family)
    before = logits_of(model)
    assert load(model).engine == "plain"
    assert [name for name, module in model.named_modules() if "forward" in vars(module)] == []
    assert torch.equal(logits_of(model), before)


def test_an_engine_that_cannot_run_a_model_is_refused_with_a_reason() -> None:
    with pytest.raises(
        BackboneError, match=r"engine=stream cannot run GptOssForCausalLM: its attention takes"
    ):
        load(tiny("gpt_oss"), engine="stream")
    with pytest.raises(BackboneError, match=r"backbone\.engine=fast; choose auto, stream, plain"):
        load(tiny("llama"), engine="fast")


def test_a_model_is_compared_under_no_grad_too() -> None:
    with torch.no_grad():
        assert load(tiny("cohere")).engine == "stream"
        assert load(tiny("gpt_oss")).engine == "plain"


def test_a_model_whose_tokens_see_later_ones_is_refused() -> None:
    with pytest.raises(BackboneError, match="lets tokens see later ones"):
        load(tiny("bert", is_decoder=False))


@pytest.mark.parametrize("family", ["gemma3n_text", "deepseek_v4"])
def test_a_model_whose_layers_use_token_ids_is_refused(family: str) -> None:
    """DeepSeek V4 chooses experts by token id, and fails without ids."""
    with pytest.raises(BackboneError, match="uses token ids in more places than its embedding"):
        load(tiny(family))


def test_a_model_whose_gradient_does_not_reach_its_input_is_refused() -> None:
    """As with quantised layers that have no backward pass."""
    model = tiny("gpt_oss")
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.register_forward_hook(lambda _, __, states: states.detach())
    with pytest.raises(BackboneError, match="gives its input no gradient, or a wrong one, on cpu"):
        load(model)


class Negated(torch.autograd.Function):
    """A backward pass of the wrong sign, as a quantised layer might have."""

    @staticmethod
    def forward(ctx: Any, states: Tensor) -> Tensor:
        return states.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


# torch does not type `apply`.
negated: Callable[[Tensor], Tensor] = Negated.apply


def test_a_quantised_model_with_a_wrong_gradient_is_refused() -> None:
    model = tiny("llama")
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    assert load(model).engine == "plain"
    layer = next(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    layer.register_forward_hook(lambda _, __, states: negated(states))
    with pytest.raises(BackboneError, match="gives its input no gradient, or a wrong one"):
        load(model)


def test_a_difference_from_the_models_own_forward_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    model, run = tiny("cohere"), StreamLM.states

    def off(lm: StreamLM, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        states = run(lm, bank, batch, choices)
        states.hidden_MD.data.mul_(1.001)
        return states

    monkeypatch.setattr(StreamLM, "states", off)
    with pytest.raises(
        BackboneError, match=r"scores with a prompt in front would differ by .* from those of"
    ):
        load(model, engine="stream")


def test_layers_with_a_forward_of_their_own_keep_it() -> None:
    """LoRA inside the model is an example of all subclasses of linear layers, such as quantised ones."""
    model = tiny_model("llama")
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = cast(PreTrainedModel, inject_adapter_in_model(lora, model))
    expected = oracle_scores(copy.deepcopy(adapted), ROWS, LABELS)
    lm = load(adapted)
    assert lm.engine == "stream"
    ours = score_classes(lm, PromptBank(), batch_of(ROWS, LABELS)).log_likelihood_BC
    assert ((ours - expected).abs().max() / expected.abs().max()).item() < 1e-5


def test_a_quantised_model_runs_on_its_own_forward() -> None:
    model = tiny("llama")
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    assert load(model).choice.endswith("plain engine: its weights are quantised")


def test_weights_are_unchanged_after_a_comparison_in_fp32() -> None:
    model = tiny("cohere").bfloat16()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    load(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


def test_in_lower_precision_the_stream_is_no_further_from_fp32_than_the_model_itself() -> None:
    exact = {"scores": torch.tensor([-1.0, -2.0]), "gradients": torch.tensor([1.0])}
    own = {"scores": exact["scores"] + 0.01, "gradients": exact["gradients"] + 0.01}
    further = {"scores": exact["scores"] + 0.02, "gradients": exact["gradients"] + 0.01}
    verify.expect_as_close(own, own, exact)
    with pytest.raises(
        BackboneError,
        match=r"its scores would be off by 0\.01, and those of its own forward are off by 0\.005",
    ):
        verify.expect_as_close(further, own, exact)


@pytest.mark.parametrize("family", ["roformer", "mpt"])
def test_a_models_properties_are_found_whatever_its_dtype(family: str) -> None:
    """Padding, in roformer anywhere and in MPT after a prefix, has a small effect in bfloat16."""

    def properties(model: PreTrainedModel) -> tuple[bool, bool, str | None]:
        lm = PlainLM(model, tiny_tokenizer(), name="tiny")
        return lm.pads_are_exact, lm._pads_after_prefix, lm.spec.prefix_refusal

    exact = properties(tiny(family))
    assert exact != (True, True, None)
    assert properties(tiny(family).bfloat16()) == exact


def test_later_tokens_are_found_to_be_seen_in_bfloat16_too() -> None:
    with pytest.raises(BackboneError, match="lets tokens see later ones"):
        load(tiny("prophetnet").bfloat16())


def test_a_model_that_cannot_run_in_its_own_dtype_is_refused_with_the_dtype() -> None:
    with pytest.raises(BackboneError, match=r"cannot run a row of tokens in torch\.bfloat16"):
        load(tiny("inkling2_text").bfloat16())


def test_weights_are_unchanged_if_there_is_no_memory_to_widen_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama").bfloat16()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    converted: list[torch.dtype] = []

    def promote(own: torch.dtype, _: torch.dtype) -> torch.dtype:
        converted.append(own)
        if len(converted) > 3:
            raise MemoryError
        return torch.float64

    monkeypatch.setattr(torch, "promote_types", promote)
    with pytest.raises(MemoryError), in_dtype(model, torch.float64):
        pass
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_hook_on_a_layer_is_still_there_after_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of accelerate, which replaces a layer's forward to move its weights."""
    model = tiny_model("llama")
    layer = next(module for module in model.modules() if isinstance(module, nn.Linear))
    last = next(m for m in list(model.modules())[::-1] if isinstance(m, GradientCheckpointingLayer))
    hooks = {module: module.forward for module in (layer, last)}
    for module, hook in hooks.items():
        monkeypatch.setattr(module, "forward", hook)
    StreamLM(model, tiny_tokenizer(), name="tiny").undo()
    assert {module: vars(module)["forward"] for module in hooks} == hooks


def test_a_family_whose_cache_takes_no_prefix_refuses_prefix_tuning_by_name() -> None:
    spec = load(tiny("mamba")).spec
    with pytest.raises(ConfigError, match=r"tiny takes no keys and values in front of a row: it keeps"):
        PrefixTuning(
            spec=spec,
            num_virtual_tokens=2,
            generator=torch.Generator().manual_seed(0),
            initialiser=RandomNormal(std=0.1),
            through_backbone=False,
        )
