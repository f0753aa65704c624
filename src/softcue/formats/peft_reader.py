"""Soft prompts read from PEFT's folders, of any version, whole checkpoints included; shapes as in peft.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from softcue.contracts import PromptBank
from softcue.errors import RunError
from softcue.formats.peft import CONFIG, ENCODER_DECODER, AdapterConfig
from softcue.formats.peft_tensors import prompt_tensors
from softcue.formats.plain import read_small
from softcue.formats.source import PromptShape, PromptSource, embedding_sizes, key_value_sizes
from softcue.formats.tensor_file import expect_finite, expect_readable


@dataclass(frozen=True, kw_only=True)
class Adapter(PromptSource):
    """A PEFT adapter whose config was checked: its prompts, one for each task of a multitask adapter."""

    folder: Path
    config: AdapterConfig
    old_bloom: bool

    def bank(self) -> PromptBank:
        parts = prompt_tensors(self.folder, _shapes(self.config))
        expect_finite(parts, self.folder)
        return _bank(parts, self.config, old_bloom=self.old_bloom)


def open_adapter(folder: Path, *, old_bloom: bool = False) -> Adapter:
    """Check any of PEFT's soft prompts, whatever PEFT's version.

    `old_bloom` is for prefixes that PEFT trained on BLOOM with transformers before 4.44, whose numbers
    are in another order. Nothing in the folder says so, and PEFT itself now reads them in today's order.

    Raises:
        RunError: no soft prompt in the folder, one for another kind of model, a damaged one, or a
            pickle of more than tensors.
    """
    config = _read_config(folder / CONFIG)
    if config.num_transformer_submodules not in (1, 2, None):
        raise RunError(
            f"{folder / CONFIG} has num_transformer_submodules {config.num_transformer_submodules}; it is "
            "1, or 2 for an encoder and a decoder. Copy the adapter again."
        )
    expect_readable(_shapes(config), folder / CONFIG)
    return Adapter(
        folder=folder,
        config=config,
        old_bloom=old_bloom,
        shape=PromptShape(
            num_prompts=config.num_tasks or 1 if config.peft_type == "MULTITASK_PROMPT_TUNING" else 1,
            num_tokens=config.num_virtual_tokens,
            sizes=_sizes(config),
            submodules=_rows(config) if config.peft_type == "MULTITASK_PROMPT_TUNING" else 1,
            attentions=_attentions(config),
        ),
        made_for=config.base_model_name_or_path,
        layout=None,
    )


def _bank(parts: Mapping[str, Tensor], config: AdapterConfig, *, old_bloom: bool) -> PromptBank:
    table_PW = parts["prompt_embeddings"]
    if config.peft_type == "PREFIX_TUNING":
        key_values = _old_bloom_key_values if old_bloom else _key_values
        sizes = _sizes(config)
        keys_LHPK, values_LHPK = key_values(
            table_PW, heads=sizes["key-value heads"], head_size=sizes["key size"]
        )
        if config.task_type == ENCODER_DECODER and config.num_transformer_submodules != 1:
            used = [2 * layer % len(keys_LHPK) for layer in range(len(keys_LHPK))]
            keys_LHPK, values_LHPK = keys_LHPK[used], values_LHPK[used]
        return PromptBank(
            keys_TLHPK=keys_LHPK[None].contiguous(),
            values_TLHPK=values_LHPK[None].contiguous(),
            attentions=_attentions(config),
        )
    if config.peft_type == "MULTITASK_PROMPT_TUNING":
        factors_TPD = parts["prefix_task_cols"] @ parts["prefix_task_rows"]
        return _embeddings(table_PW * factors_TPD, config)
    return _embeddings(table_PW[None], config)


def _embeddings(all_TPD: Tensor, config: AdapterConfig) -> PromptBank:
    own_TPD, *decoder = all_TPD.split(config.num_virtual_tokens, dim=1)
    if config.peft_type != "MULTITASK_PROMPT_TUNING":
        decoder = []  # which PEFT's own forward leaves out
    return PromptBank(
        embeddings_TPD=own_TPD.contiguous(),
        decoder_embeddings_TPD=decoder[0].contiguous() if decoder else None,
    )


def _key_values(table_PW: Tensor, *, heads: int, head_size: int) -> tuple[Tensor, Tensor]:
    """The reverse of `peft.flattened`: [L, H, P, K] each."""
    by_layer_PL2HK = table_PW.unflatten(1, (-1, 2, heads, head_size))
    keys_LHPK, values_LHPK = by_layer_PL2HK.permute(2, 1, 3, 0, 4)
    return keys_LHPK, values_LHPK


def _old_bloom_key_values(table_PW: Tensor, *, heads: int, head_size: int) -> tuple[Tensor, Tensor]:
    """All layers' keys, then all values; PEFT reshaped a layer's keys, token by token, to [H, K, P]."""
    keys_PLHK, values_PLHK = table_PW.unflatten(1, (2, -1, heads, head_size)).unbind(1)
    keys_LHKP = keys_PLHK.transpose(0, 1).reshape(-1, heads, head_size, len(table_PW))
    return keys_LHKP.transpose(2, 3), values_PLHK.permute(1, 2, 0, 3)


def _sizes(config: AdapterConfig) -> dict[str, int]:
    """The sizes of one virtual token."""
    if config.peft_type != "PREFIX_TUNING":
        return embedding_sizes(hidden_size=config.token_dim)
    assert config.num_layers is not None
    assert config.num_attention_heads is not None
    head_size = config.token_dim // config.num_attention_heads
    return key_value_sizes(
        layers=config.num_layers, heads=config.num_attention_heads, key_size=head_size, value_size=head_size
    )


def _rows(config: AdapterConfig) -> int:
    """How many rows a tensor has for each virtual token."""
    return 1 if config.peft_type == "PREFIX_TUNING" else config.num_transformer_submodules or 1


def _attentions(config: AdapterConfig) -> tuple[str, ...] | None:
    is_prefix = config.peft_type == "PREFIX_TUNING"
    return ("decoder",) if is_prefix and config.task_type == ENCODER_DECODER else None


def _shapes(config: AdapterConfig) -> dict[str, tuple[int, ...]]:
    """The tensors that belong to a config, and their shapes."""
    count, width = config.num_virtual_tokens * _rows(config), config.token_dim
    if config.peft_type == "PREFIX_TUNING":
        assert config.num_layers is not None
        return {"prompt_embeddings": (count, 2 * width * config.num_layers)}
    if config.peft_type == "MULTITASK_PROMPT_TUNING":
        assert config.num_tasks is not None
        assert config.num_ranks is not None
        return {
            "prompt_embeddings": (count, width),
            "prefix_task_cols": (config.num_tasks, count, config.num_ranks),
            "prefix_task_rows": (config.num_tasks, config.num_ranks, width),
        }
    return {"prompt_embeddings": (count, width)}


def _read_config(path: Path) -> AdapterConfig:
    try:
        config = _ADAPTER_CONFIG.validate_json(read_small(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "content"
        raise RunError(
            f"{path} is not that of a soft prompt: {where} is {first['input']!r:.60} ({first['msg']}); give "
            "the folder of a PEFT adapter of one of these types."
        ) from error
    needed = {
        "PREFIX_TUNING": ("num_layers", "num_attention_heads"),
        "MULTITASK_PROMPT_TUNING": ("num_tasks", "num_ranks"),
    }.get(config.peft_type, ())
    missing = [name for name in needed if getattr(config, name) is None]
    if missing:
        raise RunError(f"{path} lacks {missing} for peft_type {config.peft_type}; copy the adapter again.")
    if config.peft_type == "PREFIX_TUNING" and config.token_dim % (config.num_attention_heads or 1):
        raise RunError(
            f"{path} has token_dim {config.token_dim}, which {config.num_attention_heads} heads do not share "
            "evenly; copy the adapter again."
        )
    return config


_ADAPTER_CONFIG = TypeAdapter(AdapterConfig)
