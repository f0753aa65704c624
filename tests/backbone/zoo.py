"""Tiny random models of every decoder family, and the oracle that both engines are compared with.

The oracle runs one row and one label at a time, unpadded, through the model's own eager forward; it
shares no code with the engines.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedConfig, PreTrainedModel

VOCABULARY, HIDDEN = 64, 32
TOO_LARGE = 3_000_000

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    # widths
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim", "word_embed_proj_dim"), HIDDEN),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    # depths and heads
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "attention_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rotary_dim": 4,
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 512),
    # mixtures of experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    "num_experts_per_tok": 2,
    # multi-head latent attention: values of another size than keys
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 8),
    "v_head_dim": 12,
    # linear attention and state spaces
    **dict.fromkeys(("linear_num_value_heads", "mamba_n_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "mamba_d_state", "state_size"), 8),
    "linear_num_key_heads": 2,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
}
"""Sizes of tiny models; each family takes those that its config has."""

LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}
"""A row of more than 64 tokens switches all rows that it runs with to the long factors."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A family with settings that change its computation."""

    family: str
    settings: Mapping[str, Any] = field(default_factory=dict)


CONV_AND_FULL = {"layer_types": ["conv", "full_attention"]}
SLIDING_AND_FULL = {"layer_types": ["sliding_attention", "full_attention"]}
HYBRID = {"layer_types": ["hybrid_sliding", "hybrid"], "sliding_window_size": 16}
FOUR_LAYERS = {"num_hidden_layers": 4}
WINDOW = {"sliding_window": 16}
"""For families on the plain engine; the stream engine takes no rows longer than the window."""
INDEX = {"index_topk": 8, "index_n_heads": 16, "index_head_dim": 16}
"""An index that chooses 8 tokens of a row; with few heads, many tokens would tie at 0."""

SETTINGS: dict[str, dict[str, Any]] = {
    # layers of every kind
    **dict.fromkeys(("afmoe", "cohere2", "cohere2_moe", "exaone4", "exaone_moe", "flint"), SLIDING_AND_FULL),
    **dict.fromkeys(("gemma3_text", "kolibri1", "laguna", "mellum", "olmo3"), SLIDING_AND_FULL),
    **dict.fromkeys(("gemma2", "gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash"), WINDOW),
    **dict.fromkeys(("inkling_text", "inkling2_text"), HYBRID),
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1]},
    "beam": {"mlp_layer_types": ["dense", "sparse"]},
    **dict.fromkeys(("axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4"), INDEX),
    "deepseek_v4": {"layer_types": ["heavily_compressed_attention", "compressed_sparse_attention"]},
    "dots3_note_text": {
        **INDEX,
        "num_hidden_layers": 3,
        **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 4),
        **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank", "swa_head_dim"), 16),
        "swa_qk_nope_head_dim": 8,
        "swa_v_head_dim": 12,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 16},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_conv": 4},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    **dict.fromkeys(("lfm2", "lfm2_moe"), CONV_AND_FULL),
    "lfm3": {
        "num_hidden_layers": 3,
        "layer_types": ["conv", "sliding_attention", "full_attention"],
        **WINDOW,
    },
    "llama4_text": {
        "layer_types": ["chunked_attention", "full_attention"],
        "no_rope_layers": [1, 0],
        "attention_chunk_size": 16,
    },
    "modernbert-decoder": {"local_attention": 32},
    "vaultgemma": WINDOW,
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "index_block_size": 8,
        "index_topk_blocks": 2,
    },
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), FOUR_LAYERS),
    "qwen4_exp_text": {
        "num_hidden_layers": 4,
        **dict.fromkeys(("indexer_n_heads", "indexer_compress_ratio"), 2),
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 64,
    },
    "recurrent_gemma": {"num_hidden_layers": 3, "lru_width": HIDDEN, "attention_window_size": 16},
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "mamba"]},
    # sizes that must fit each other
    "falcon_h1": {"mamba_d_ssm": 64, "embedding_multiplier": 3.0},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
    },
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 64,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "zaya": {"num_experts_per_tok": 1},
}
"""Further settings that a family needs, such as layers of both kinds."""

DERIVED: dict[str, tuple[str, ...]] = {
    "falcon": ("head_dim",),
    "gemma4_text": ("head_dim", "num_key_value_heads"),
    "gpt_neo": ("num_layers",),
    "prophetnet": ("num_hidden_layers", "num_layers"),
    "xlnet": ("max_position_embeddings",),
    "xlstm": ("v_head_dim", "head_dim"),
    "zamba2": ("num_hidden_layers",),
}
"""Sizes that a family computes from others and does not accept."""

VARIANTS: dict[str, Variant] = {
    "falcon, alibi": Variant(family="falcon", settings={"alibi": True}),
    "gemma2, without softcaps": Variant(
        family="gemma2",
        settings={
            **dict.fromkeys(("attn_logit_softcapping", "final_logit_softcapping")),
            "sliding_window": 4096,
        },
    ),
    "llama, longrope": Variant(family="llama", settings={"rope_parameters": LONG_ROPE}),
    "mistral, window of 16": Variant(family="mistral", settings={"sliding_window": 16}),
    "opt, projected embeddings": Variant(
        family="opt", settings={"word_embed_proj_dim": 16, "do_layer_norm_before": False}
    ),
    "phi3, longrope": Variant(family="phi3", settings={"rope_parameters": LONG_ROPE}),
    "qwen2_moe, window of 0": Variant(family="qwen2_moe", settings={"sliding_window": 0}),
}
"""Families with settings that change their computation."""

SPREAD = {
    **dict.fromkeys(("bailing_hybrid", "olmo_hybrid", "qwen3_next", "qwen3_5_text"), 0.05),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen4_exp_text"), 0.05),
    "gemma4_text": 0.13,
    "gemma4_unified_text": 0.07,
}
"""Standard deviation of weights in families that amplify fp32's rounding; 0.2 in the others."""


def tiny(family: str, **settings: Any) -> PreTrainedModel:
    """A random model whose weights are large enough for differences to show.

    Raises:
        ValueError: the model is large with these settings.
    """
    config = tiny_config(family, **settings)
    with torch.device("meta"):
        size = sum(p.numel() for p in _from_config(copy.deepcopy(config)).parameters())
    if size > TOO_LARGE:
        raise ValueError(f"{family} has {size:,} parameters")
    torch.manual_seed(0)
    model = _from_config(config)
    spread = SPREAD.get(family, 0.2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, spread)
            else:  # biases and scales of 0 would hide the computation before them
                parameter.add_(torch.randn(parameter.shape) * spread / 4)
    model.eval()
    return model


def tiny_config(family: str, **settings: Any) -> PreTrainedConfig:
    """The family's own config at the smallest sizes."""
    default = AutoConfig.for_model(family)
    known = {name: size for name, size in SIZES.items() if _has(default, name)}
    if "qk_rope_head_dim" in known:
        known.pop("head_dim", None)  # computed from the others
        known["num_key_value_heads"] = 4
    for name in DERIVED.get(family, ()):
        known.pop(name, None)
    # A copy: a config changes the mappings that it is given.
    return AutoConfig.for_model(family, **copy.deepcopy(known | SETTINGS.get(family, {}) | settings))


def oracle_scores(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    embeddings_TPD: Tensor | None = None,
    prompts: Sequence[int] | None = None,
    prefix: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Log-likelihood of every label after every row, each alone: [B, C]."""
    prompts = prompts or [0] * len(rows)
    return torch.stack(
        [
            torch.stack([_one(model, row, label, embeddings_TPD, prompt, prefix) for label in labels])
            for row, prompt in zip(rows, prompts, strict=True)
        ]
    )


def _one(
    model: PreTrainedModel,
    row: Sequence[int],
    label: Sequence[int],
    embeddings_TPD: Tensor | None,
    prompt: int,
    prefix: tuple[Tensor, Tensor] | None,
) -> Tensor:
    run = cast(nn.Module, model)
    if embeddings_TPD is None and prefix is None:
        logits = run(input_ids=torch.tensor([[*row, *label]]), use_cache=False).logits
    elif prefix is None:
        assert embeddings_TPD is not None
        vectors = [
            embeddings_TPD[prompt, -1 - token] if token < 0 else typed_embedding(model, token)
            for token in [*row, *label]
        ]
        logits = run(inputs_embeds=torch.stack(vectors)[None], use_cache=False).logits
    else:
        keys_LHPK, values_LHPK = prefix
        cache = DynamicCache(config=model.config.get_text_config(decoder=True))
        for layer, (keys_HPK, values_HPK) in enumerate(zip(keys_LHPK, values_LHPK, strict=True)):
            cache.update(keys_HPK[None], values_HPK[None], layer)
        ids = torch.tensor([[token for token in [*row, *label] if token >= 0]])
        ahead = keys_LHPK.shape[2]
        logits = run(
            input_ids=ids,
            past_key_values=cache,
            attention_mask=torch.ones(1, ahead + ids.shape[1], dtype=torch.long),
            use_cache=True,
        ).logits
    log_probs_TV = logits[0].float().log_softmax(-1)
    places = torch.arange(len(log_probs_TV) - len(label) - 1, len(log_probs_TV) - 1)
    total: Tensor = log_probs_TV[places, torch.tensor(label)].sum()
    return total


def typed_embedding(model: PreTrainedModel, token: int) -> Tensor:
    """The vector that replaces a token in `inputs_embeds`: [D]."""
    table = model.get_input_embeddings()
    vector_D = cast(Tensor, table(torch.tensor([token])))[0].detach()
    if model.config.model_type == "falcon_h1":
        # It scales embeddings of ids, but not those it is given.
        return vector_D * float(model.config.embedding_multiplier)
    return vector_D


def _from_config(config: PreTrainedConfig) -> PreTrainedModel:
    return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, attn_implementation="eager"))


def _has(config: PreTrainedConfig, name: str) -> bool:
    return name in type(config).__dataclass_fields__ or name in config.attribute_map
