"""What a model family needs before it can run streams: every particularity in one place.

A family reaches the plan through transformers' attention interface, or, as BLOOM, by an attention
block of ours. Whatever is replaced computes the same function of the same weights. Only modules of
exactly the named types are replaced: a subclass has a forward of its own.
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
from softcue.backbone.frozen_layers import frozen_layer_norm, frozen_linear, frozen_rms_norm, wide_layer_norm
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
"""Families, by model type and class, whose plan our tests compare with an oracle; others are compared
with their own forward when they are loaded."""

REPLACED: dict[type[nn.Module], Callable[..., object]] = {
    nn.Linear: frozen_linear,
    nn.LayerNorm: frozen_layer_norm,
    LlamaRMSNorm: frozen_rms_norm,
}


class Patch:
    """Replaced forwards of a model's modules, which `undo` gives back."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._attention = str(model.config._attn_implementation)
        self._modules: list[nn.Module] = []

    def replace(self, module: nn.Module, forward: Callable[..., object]) -> None:
        """Let one module, not its class, run `forward(module, ...)` in place of its own."""
        if "forward" in vars(module) and module not in self._modules:
            return  # someone else's replacement, such as a hook that moves weights to their device
        vars(module)["forward"] = MethodType(forward, module)
        self._modules.append(module)

    def undo(self) -> None:
        """Make the model what it was."""
        for module in self._modules:
            vars(module).pop("forward", None)
        self._modules.clear()
        if self.model.config._attn_implementation != self._attention:
            self.model.set_attn_implementation(self._attention)


def expect_reachable(model: PreTrainedModel) -> None:
    """Refuse a model whose attention the plan cannot reach.

    Raises:
        BackboneError: why it cannot.
    """
    if not isinstance(model, BloomForCausalLM) and not model._supports_attention_backend:
        raise BackboneError("it does not use transformers' attention interface")
    if layers_of(model) is model:
        raise BackboneError("its language-model head is not apart from its layers")


def patch(model: PreTrainedModel) -> Patch:
    """Let the model's layers follow the plan of the stream that runs.

    Raises:
        BackboneError: its attention cannot be reached.
    """
    expect_reachable(model)
    made = Patch(model)
    for module in model.modules():
        if type(module) in REPLACED:
            made.replace(module, REPLACED[type(module)])
    if type(model) is BloomForCausalLM:
        _patch_bloom(model, made)
    else:
        model.set_attn_implementation(NAME)
    if type(model) is LlamaForCausalLM:
        made.replace(cast(LlamaDecoderLayer, model.model.layers[-1]), _last_llama_layer)
    return made


def keep_differentiable(model: PreTrainedModel) -> None:
    """Keep quantised layers that rewrite their weights for inference from doing so.

    In eval mode bitsandbytes packs 4-bit weights in the first pass without gradients, on some
    processors, and from then on no gradient reaches the layer's input. It computes the same in training mode.
    """
    for module in model.modules():
        if type(module).__module__.startswith("bitsandbytes."):
            module.train()


def is_verified(model: PreTrainedModel) -> bool:
    """Whether this is a verified family as our tests know it: other configs may share its class."""
    config = model.config
    options = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn")
    if any(getattr(config, option, False) for option in options):
        return False
    known = VERIFIED.get(config.model_type) == type(model).__name__
    return known and type(model).__module__.startswith("transformers.")


def selects_outputs_early(model: PreTrainedModel) -> bool:
    """Whether the last layer already returns only the states that are read."""
    return type(model) in (BloomForCausalLM, LlamaForCausalLM)


def alibi_slopes(model: PreTrainedModel) -> Tensor | None:
    """The slope of each head's linear bias [H], in families that have one."""
    if not isinstance(model, BloomForCausalLM):
        return None
    return _get_alibi_slopes(model.config.num_attention_heads, torch.device("cpu"))


def position_arguments(model: PreTrainedModel, positions_N: Tensor) -> dict[str, Tensor]:
    """How the family is told its tokens' positions; BLOOM has none but its bias, which the plan carries."""
    return {} if isinstance(model, BloomForCausalLM) else {"position_ids": positions_N[None]}


def layers_of(model: PreTrainedModel) -> nn.Module:
    """The part of a model that makes the final states of its head; maybe the model itself."""
    decoder = cast(nn.Module, model.get_decoder())
    return model.base_model if decoder is model else decoder


class _Given(dict[str, Any]):
    """A base model's output that holds final states and nothing else."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def __getitem__(self, key: Any) -> Any:
        return self["last_hidden_state"] if key == 0 else super().__getitem__(key)


@contextmanager
def final_states_given(model: PreTrainedModel, hidden_1MD: Tensor) -> Iterator[None]:
    """While this is open, the model's own head gets these states, whatever the model is asked to run."""
    base = layers_of(model)
    before = vars(base).get("forward")
    vars(base)["forward"] = lambda *_, **__: _Given(last_hidden_state=hidden_1MD)
    try:
        yield
    finally:
        del vars(base)["forward"]
        if before is not None:
            vars(base)["forward"] = before


def _patch_bloom(model: BloomForCausalLM, made: Patch) -> None:
    for module in model.modules():
        if type(module) is BloomAttention:
            made.replace(module, _bloom_attention)
        if type(module) is BloomGelu:
            # The same formula in one kernel instead of a dozen products.
            made.replace(module, _gelu)
    made.replace(model.transformer.word_embeddings_layernorm, wide_layer_norm)
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
    """What follows the last attention concerns only the places that are read."""
    output_1ND, _weights = _bloom_attention(module, hidden_states, residual)
    return output_1ND.index_select(1, output_positions()), None


def _last_llama_layer(layer: LlamaDecoderLayer, hidden_states: Tensor, **named: object) -> Tensor:
    """What follows the last attention concerns only the places that are read."""
    attended_1ND, _weights = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **named)
    read_1MD = (hidden_states + attended_1ND).index_select(1, output_positions())
    return cast(Tensor, read_1MD + layer.mlp(layer.post_attention_layernorm(read_1MD)))
