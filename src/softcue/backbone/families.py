"""What a model family needs before it can run streams: all family-specific code in one place.

A family follows the plan through transformers' attention interface or, as BLOOM, through a replaced
attention block. Each replacement computes the same function of the same weights. Only modules of
exactly the named types are replaced: a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.bloom.modeling_bloom import (
    BloomAttention,
    BloomForCausalLM,
    BloomGelu,
    _get_alibi_slopes,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaRMSNorm

from softcue.backbone.attention import NAME, attend, output_positions
from softcue.backbone.frozen_layers import frozen_layer_norm, frozen_linear, frozen_rms_norm, layer_norm_fp32
from softcue.errors import BackboneError

AttentionInterface.register(NAME, attend)

VERIFIED = {
    "bloom": "BloomForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "opt": "OPTForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""Families, by model type and class, whose plan the tests compare with an oracle; models of other
families are compared with their own forward when they are loaded."""

REPLACED: dict[type[nn.Module], Callable[..., object]] = {
    nn.Linear: frozen_linear,
    nn.LayerNorm: frozen_layer_norm,
    LlamaRMSNorm: frozen_rms_norm,
}


class Patch:
    """Replaced forwards of a model's modules; `undo` restores the original ones."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._attention = str(model.config._attn_implementation)
        self._before: list[tuple[nn.Module, object]] = []

    def replace(self, module: nn.Module, forward: Callable[..., object]) -> None:
        """Let this module, not its class, run `forward(module, ...)` in place of its own."""
        self._before.append((module, vars(module).get("forward")))
        vars(module)["forward"] = MethodType(forward, module)

    def undo(self) -> None:
        """Restore the model as it was."""
        for module, forward in reversed(self._before):
            set_forward(module, forward)
        self._before.clear()
        if self.model.config._attn_implementation != self._attention:
            self.model.set_attn_implementation(self._attention)


def expect_reachable(model: PreTrainedModel) -> None:
    """Refuse a model whose attention cannot follow a plan.

    Raises:
        BackboneError: the model's attention or its layers cannot be reached.
    """
    if not isinstance(model, BloomForCausalLM) and not model._supports_attention_backend:
        raise BackboneError("it does not use transformers' attention interface")
    if layers_of(model) is model:
        raise BackboneError("its language-model head is not separate from its layers")


def patch_model(model: PreTrainedModel) -> Patch:
    """Let the model's layers follow the plan of the stream that is running.

    Raises:
        BackboneError: its attention cannot be reached.
    """
    expect_reachable(model)
    made = Patch(model)
    if type(model) is not BloomForCausalLM:
        model.set_attn_implementation(NAME)
    for module in model.modules():
        # An instance with a forward of its own has a hook, such as one that loads weights when needed.
        if type(module) in REPLACED and "forward" not in vars(module):
            made.replace(module, REPLACED[type(module)])
    if type(model) is BloomForCausalLM:
        _patch_bloom(model, made)
    if type(model) is LlamaForCausalLM:
        made.replace(cast(LlamaDecoderLayer, model.model.layers[-1]), _last_llama_layer)
    return made


def keep_differentiable(model: PreTrainedModel) -> None:
    """Prevent quantised layers from rewriting their weights for inference.

    In eval mode bitsandbytes packs 4-bit weights in the first pass without gradients, on some
    processors, and from then on no gradient reaches the layer's input. It computes the same in training mode.
    """
    for module in model.modules():
        if type(module).__module__.startswith("bitsandbytes."):
            module.train()


def is_verified(model: PreTrainedModel) -> bool:
    """Whether the tests verify this model's family under its settings."""
    config = model.config
    options = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    if any(getattr(config, option, False) for option in options):
        return False
    known = VERIFIED.get(config.model_type) == type(model).__name__
    return known and type(model).__module__.startswith("transformers.")


def selects_outputs_early(model: PreTrainedModel) -> bool:
    """Whether the last layer already returns only the final states that are needed."""
    return type(model) in (BloomForCausalLM, LlamaForCausalLM)


def alibi_slopes(model: PreTrainedModel) -> Tensor | None:
    """The slope of each head's linear bias [H], in families that have one."""
    if not isinstance(model, BloomForCausalLM):
        return None
    return _get_alibi_slopes(model.config.num_attention_heads, torch.device("cpu"))


def position_arguments(model: PreTrainedModel, positions_N: Tensor) -> dict[str, Tensor]:
    """The arguments that pass positions to the model; none for BLOOM, whose bias comes from the plan."""
    return {} if isinstance(model, BloomForCausalLM) else {"position_ids": positions_N[None]}


def layers_of(model: PreTrainedModel) -> nn.Module:
    """The part of a model that computes the input of its head; may be the model itself."""
    decoder = cast(nn.Module, model.get_decoder())
    return model.base_model if decoder is model else decoder


class _FinalStates(dict[str, Any]):
    """A base model's output that holds final states only."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        return self["last_hidden_state"] if key == 0 else super().__getitem__(key)


@contextmanager
def replace_final_states(model: PreTrainedModel, hidden_1MD: Tensor) -> Iterator[None]:
    """Give the model's head these states inside this context, whatever input the model runs on."""
    base = layers_of(model)
    before = vars(base).get("forward")
    vars(base)["forward"] = lambda *_, **__: _FinalStates(last_hidden_state=hidden_1MD)
    try:
        yield
    finally:
        set_forward(base, before)


def set_forward(module: nn.Module, forward: object) -> None:
    """Set an instance's forward; None removes it, so that its class's applies."""
    if forward is None:
        del vars(module)["forward"]
    else:
        vars(module)["forward"] = forward


def _patch_bloom(model: BloomForCausalLM, made: Patch) -> None:
    for module in model.modules():
        if type(module) is BloomAttention:
            made.replace(module, _bloom_attention)
        if type(module) is BloomGelu:
            # The same formula in one kernel instead of a dozen products.
            made.replace(module, _gelu)
    made.replace(model.transformer.word_embeddings_layernorm, layer_norm_fp32)
    last = cast(BloomAttention, model.transformer.h[-1].self_attention)
    made.replace(last, _last_bloom_attention)


def _gelu(_: nn.Module, x: Tensor) -> Tensor:
    return gelu(x, approximate="tanh")


def _bloom_attention(
    module: BloomAttention, hidden_states: Tensor, residual: Tensor, *_: object, **__: object
) -> tuple[Tensor, None]:
    query, key, value = module._reshape(module.query_key_value(hidden_states))
    output_1NHK, _weights = attend(module, query, key, value, None, scaling=module.inv_norm_factor)
    return residual + module.dense(output_1NHK.flatten(2)), None


def _last_bloom_attention(
    module: BloomAttention, hidden_states: Tensor, residual: Tensor, *_: object, **__: object
) -> tuple[Tensor, None]:
    """The last attention, for the positions whose final states are needed."""
    output_1ND, _weights = _bloom_attention(module, hidden_states, residual)
    return output_1ND.index_select(1, output_positions()), None


def _last_llama_layer(layer: LlamaDecoderLayer, hidden_states: Tensor, **named: object) -> Tensor:
    """The last layer, which after its attention computes only the positions that are needed."""
    attended_1ND, _weights = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **named)
    output_1MD = (hidden_states + attended_1ND).index_select(1, output_positions())
    return cast(Tensor, output_1MD + layer.mlp(layer.post_attention_layernorm(output_1MD)))
