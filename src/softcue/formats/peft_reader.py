"""Soft prompts read from PEFT's folders, of any version, whole checkpoints included; shapes as in peft.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from softcue.contracts import PromptBank
from softcue.errors import RunError
from softcue.formats.peft import CONFIG, WEIGHTS, AdapterConfig
from softcue.formats.peft_encoders import encode

PICKLED_WEIGHTS = "adapter_model.bin"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A PEFT adapter: its prompts, one for each task of a multitask adapter, and its config."""

    bank: PromptBank
    config: AdapterConfig


def read_adapter(folder: Path, *, old_bloom: bool = False) -> Adapter:
    """Any of PEFT's soft prompts for a causal model, whatever PEFT's version; fp32.

    `old_bloom` is for prefixes that PEFT trained on BLOOM with transformers before 4.44, whose numbers
    stand in another order. Nothing in the folder says so, and PEFT itself now reads them as today's.

    Raises:
        RunError: no soft prompt in the folder, one for another kind of model, a damaged one, or a
            pickle of more than tensors.
    """
    config = _read_config(folder / CONFIG)
    if config.num_transformer_submodules not in (1, None):
        raise RunError(
            f"{folder} holds a prompt for an encoder and a decoder (task_type {config.task_type}); softcue "
            "prompts causal models: give an adapter of task_type CAUSAL_LM."
        )
    parts = _parts(_read_tensors(folder))
    found, expected = {name: tuple(part.shape) for name, part in parts.items()}, _shapes(config)
    if found != expected:
        raise RunError(
            f"{folder} holds tensors {found}, and its {CONFIG} speaks of {expected}; copy both files again "
            "from one adapter."
        )
    return Adapter(bank=_bank(parts, config, old_bloom=old_bloom), config=config)


def _bank(parts: Mapping[str, Tensor], config: AdapterConfig, *, old_bloom: bool) -> PromptBank:
    table_PW = parts["prompt_embeddings"]
    if config.peft_type == "PREFIX_TUNING":
        key_values = _old_bloom_key_values if old_bloom else _key_values
        assert config.num_attention_heads is not None, "PEFT has always written it for a prefix"
        heads = config.num_attention_heads
        keys_LHPK, values_LHPK = key_values(table_PW, heads=heads, head_size=config.token_dim // heads)
        return PromptBank(
            keys_TLHPK=keys_LHPK[None].contiguous(), values_TLHPK=values_LHPK[None].contiguous()
        )
    if config.peft_type == "MULTITASK_PROMPT_TUNING":
        factors_TPD = parts["prefix_task_cols"] @ parts["prefix_task_rows"]
        return PromptBank(embeddings_TPD=table_PW * factors_TPD)
    return PromptBank(embeddings_TPD=table_PW[None])


def _key_values(table_PW: Tensor, *, heads: int, head_size: int) -> tuple[Tensor, Tensor]:
    """The reverse of `peft.flattened`: [L, H, P, K] each."""
    by_layer_PL2HK = table_PW.unflatten(1, (-1, 2, heads, head_size))
    keys_LHPK, values_LHPK = by_layer_PL2HK.permute(2, 1, 3, 0, 4)
    return keys_LHPK, values_LHPK


def _old_bloom_key_values(table_PW: Tensor, *, heads: int, head_size: int) -> tuple[Tensor, Tensor]:
    """All layers' keys, then all values; and PEFT cut a layer's keys, token by token, into [H, K, P]."""
    keys_PLHK, values_PLHK = table_PW.unflatten(1, (2, -1, heads, head_size)).unbind(1)
    keys_LHKP = keys_PLHK.transpose(0, 1).reshape(-1, heads, head_size, len(table_PW))
    return keys_LHKP.transpose(2, 3), values_PLHK.permute(1, 2, 0, 3)


def _shapes(config: AdapterConfig) -> dict[str, tuple[int | None, ...]]:
    """The tensors that belong to a config, and their shapes."""
    count, width = config.num_virtual_tokens, config.token_dim
    if config.peft_type == "PREFIX_TUNING":
        return {"prompt_embeddings": (count, 2 * width * (config.num_layers or 0))}
    if config.peft_type == "MULTITASK_PROMPT_TUNING":
        return {
            "prompt_embeddings": (count, width),
            "prefix_task_cols": (config.num_tasks, count, config.num_ranks),
            "prefix_task_rows": (config.num_tasks, config.num_ranks, width),
        }
    return {"prompt_embeddings": (count, width)}


def _read_config(path: Path) -> AdapterConfig:
    try:
        return _ADAPTER_CONFIG.validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}); give the folder of a PEFT adapter."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "content"
        raise RunError(
            f"{path} is not that of a soft prompt: {where} is {first['input']!r:.60} ({first['msg']}); give "
            "the folder of a PEFT adapter of one of these types."
        ) from error


def _read_tensors(folder: Path) -> Mapping[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        try:
            return load_file(folder / WEIGHTS)
        except SafetensorError as error:
            raise RunError(f"{folder / WEIGHTS} is damaged ({error}); copy the adapter again.") from error
    if (folder / PICKLED_WEIGHTS).is_file():
        return _read_pickle(folder / PICKLED_WEIGHTS)
    raise RunError(f"{folder} has neither {WEIGHTS} nor {PICKLED_WEIGHTS}; copy the adapter again.")


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    try:
        # A pickle can name any code to be run on reading; this reader knows tensors and runs nothing.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, UnpicklingError) as error:
        raise RunError(
            f"{path} is a pickle of more than tensors, or damaged; nothing of it was run. Have its author "
            f"save it as {WEIGHTS}."
        ) from error
    if not isinstance(content, Mapping):
        raise RunError(f"{path} holds a {type(content).__name__}, not tensors by name; give a PEFT adapter.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


# As PEFT saves an adapter, under whatever prefix a framework put around it.
_SAVED = re.compile(r"(?:^|\.)(prompt_embeddings|prefix_task_cols|prefix_task_rows)$")
# As a checkpoint of the whole PEFT model holds it: the module of the encoder, by its adapter's name.
_MODULE = re.compile(
    r"(?:^|\.)prompt_encoder\.(?:[^.]+\.)?"
    r"(embedding\.weight|(?:mlp_head|transform)\.\d+\.(?:weight|bias)|lstm_head\.\w+)$"
)


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the prompt by PEFT's names, encoders folded away, fp32; any others are left out."""
    saved = _named(_SAVED, tensors)
    module = _named(_MODULE, tensors)
    if "prompt_embeddings" not in saved and "embedding.weight" in module:
        saved["prompt_embeddings"] = encode(module["embedding.weight"], module)
    return saved


def _named(pattern: re.Pattern[str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    matches = {name: pattern.search(name) for name in tensors}
    return {match[1]: tensors[name].float() for name, match in matches.items() if match}


_ADAPTER_CONFIG = TypeAdapter(AdapterConfig)
