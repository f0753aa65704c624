"""What a model family needs before it can run streams: every quirk in one place.

A family reaches the plan through transformers' attention interface, or, as BLOOM, by an attention
block of ours. Whatever is replaced computes the same function of the same weights.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import AttentionInterface, PreTrainedModel
from transformers.models.bloom.modeling_bloom import (
    BloomAttention,
    BloomForCausalLM,
    BloomMLP,
    _get_alibi_slopes,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaRMSNorm

from softcue.backbone.attention import NAME, attend, places_read
from softcue.backbone.frozen_layers import frozen_layer_norm, frozen_linear, frozen_rms_norm, wide_layer_norm
from softcue.errors import BackboneError

AttentionInterface.register(NAME, attend)

VERIFIED = frozenset({"bloom", "llama", "gpt2"})
"""Families whose plan is compared with the plain forward in our tests; others are at load."""


def follow_plans(model: PreTrainedModel) -> None:
    """Let the model's layers follow the plan of the stream that runs.

    Raises:
        BackboneError: if its attention cannot be reached.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            _replace_forward(module, frozen_linear)
        if isinstance(module, LlamaRMSNorm):
            _replace_forward(module, frozen_rms_norm)
        if isinstance(module, nn.LayerNorm):
            _replace_forward(module, frozen_layer_norm)
    if isinstance(model, BloomForCausalLM):
        _adapt_bloom(model)
    elif model._supports_attention_backend:
        model.set_attn_implementation(NAME)
    else:
        raise BackboneError(
            f"{type(model).__name__} does not use transformers' attention interface, so softcue "
            f"cannot run it; choose a family that does (Llama, Qwen, Mistral, GPT-2, OPT, …) or BLOOM."
        )
    if isinstance(model, LlamaForCausalLM):
        last = cast(LlamaDecoderLayer, model.model.layers[-1])
        _replace_forward(last, _last_llama_layer)


def sums_in_fp32(model: PreTrainedModel) -> bool:
    """Whether embeddings, and what layers add to them, may stay fp32 beside weights of lower precision.

    Only products are rounded then: it costs nothing measurable and about halves bfloat16's error.
    """
    return model.config.model_type in VERIFIED


def reads_early(model: PreTrainedModel) -> bool:
    """Whether the last layer already returns only the states that are read."""
    return isinstance(model, BloomForCausalLM | LlamaForCausalLM)


def alibi_slopes(model: PreTrainedModel) -> Tensor | None:
    """The slope of each head's linear bias [H], in families that have one."""
    if not isinstance(model, BloomForCausalLM):
        return None
    return _get_alibi_slopes(model.config.num_attention_heads, torch.device("cpu"))


def position_arguments(model: PreTrainedModel, positions_N: Tensor) -> dict[str, Tensor]:
    """How the family is told its tokens' positions; BLOOM has none but its bias, which the plan carries."""
    return {} if isinstance(model, BloomForCausalLM) else {"position_ids": positions_N[None]}


def _replace_forward(module: nn.Module, forward: Callable[..., object]) -> None:
    """Let one module, not its class, run `forward(module, ...)` in place of its own."""
    vars(module)["forward"] = MethodType(forward, module)


def _adapt_bloom(model: BloomForCausalLM) -> None:
    for module in model.modules():
        if isinstance(module, BloomAttention):
            _replace_forward(module, _bloom_attention)
        if isinstance(module, BloomMLP):
            # The same formula in one kernel instead of a dozen products.
            _replace_forward(module.gelu_impl, _gelu)
    first = model.transformer.word_embeddings_layernorm
    _replace_forward(first, wide_layer_norm)
    last = cast(BloomAttention, model.transformer.h[-1].self_attention)
    _replace_forward(last, _last_bloom_attention)


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
    return output_1ND.index_select(1, places_read()), None


def _last_llama_layer(layer: LlamaDecoderLayer, hidden_states: Tensor, **named: object) -> Tensor:
    """What follows the last attention concerns only the places that are read."""
    attended_1ND, _weights = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **named)
    read_1MD = (hidden_states + attended_1ND).index_select(1, places_read())
    return cast(Tensor, read_1MD + layer.mlp(layer.post_attention_layernorm(read_1MD)))
