"""Soft prompts as PEFT keeps them: a folder of adapter_config.json and adapter_model.safetensors.

PEFT itself is not needed. An adapter holds what the model sees, any encoder folded away:
`prompt_embeddings` is [P, D], and for prefix tuning [P, 2 L H K], layer by layer, keys before values.
Of PEFT's methods only the multitask one puts virtual tokens before a decoder as well: its tensors have 2 P
rows then, those of the encoder first. Its prompt tuning and P-tuning train 2 P rows by default and use the
first P. Its prefixes of encoder-decoders reach the decoder's self-attention, where layer i has the numbers of
layer 2 i modulo L (peft 0.21.2, `PeftModel.get_prompt` and `PeftModelForSeq2SeqLM.forward`).
Further letters: r rank of the multitask factors, W numbers of one virtual token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from safetensors.torch import save
from torch import Tensor

from softcue.contracts import PromptBank
from softcue.errors import ConfigError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

CAUSAL, ENCODER_DECODER = "CAUSAL_LM", "SEQ_2_SEQ_LM"
"""PEFT's names for the two kinds of models."""

PeftType = Literal["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING"]

Size = Annotated[int, Field(gt=0, lt=2**31)]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The content of adapter_config.json; PEFT takes what is None from the model.

    `token_dim` is D, and for prefix tuning H K; `num_transformer_submodules` is 2 where an encoder
    and a decoder have a prompt each.
    """

    peft_type: PeftType
    task_type: str | None = CAUSAL
    base_model_name_or_path: str | None = None
    num_virtual_tokens: Size
    token_dim: Size
    num_layers: Size | None = None
    num_attention_heads: Size | None = None
    num_transformer_submodules: int | None = 1
    num_tasks: Size | None = None
    num_ranks: Size | None = None
    inference_mode: bool = True


def adapter_files(
    bank: PromptBank, *, peft_type: PeftType, base_model: str, encoder_decoder: bool = False
) -> dict[str, bytes]:
    """One prompt as the files of an adapter, by name.

    `peft_type` says what made the embeddings: PEFT reads a P-tuning prompt as it reads prompt
    tuning's, since the encoder is folded away. A prompt before both encoder and decoder becomes a
    multitask adapter of one task.

    Raises:
        ConfigError: not one prompt but none or several, or an encoder-decoder's keys and values.
    """
    if bank.num_prompts != 1 or not bank.tensors():
        count = bank.num_prompts if bank.tensors() else 0
        raise ConfigError(f"a PEFT adapter of type {peft_type} holds one prompt, and this bank has {count}.")
    (length,) = bank.num_virtual_tokens
    if bank.embeddings_TPD is not None and bank.decoder_embeddings_TPD is not None:
        both_PD = torch.cat([bank.embeddings_TPD[0], bank.decoder_embeddings_TPD[0]])
        return multitask_adapter_files(
            shared_PD=both_PD,
            task_cols_TPr=torch.ones(1, len(both_PD), 1),
            task_rows_TrD=torch.ones(1, 1, both_PD.shape[1]),
            base_model=base_model,
            encoder_decoder=True,
            submodules=2,
        )
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        _, layers, heads, _, head_size = bank.keys_TLHPK.shape
        if bank.values_TLHPK.shape[4] != head_size:
            raise ConfigError(
                f"PEFT holds keys and values of one size, and this prefix has keys of {head_size} numbers a "
                f"head and values of {bank.values_TLHPK.shape[4]}: it cannot be an adapter."
            )
        if encoder_decoder:
            raise ConfigError(
                "PEFT gives layer i of a decoder the prefix of layer 2 i, so it cannot hold a prefix of an "
                "encoder-decoder; use softcue.load, or train a prompt of embeddings."
            )
        table_PW = flattened(bank.keys_TLHPK[0], bank.values_TLHPK[0])
        config = AdapterConfig(
            peft_type=peft_type,
            base_model_name_or_path=base_model,
            num_virtual_tokens=length,
            token_dim=heads * head_size,
            num_layers=layers,
            num_attention_heads=heads,
        )
    else:
        assert bank.embeddings_TPD is not None
        table_PW = bank.embeddings_TPD[0]
        config = AdapterConfig(
            peft_type=peft_type,
            task_type=ENCODER_DECODER if encoder_decoder else CAUSAL,
            base_model_name_or_path=base_model,
            num_virtual_tokens=length,
            token_dim=table_PW.shape[1],
        )
    return _files(config, {"prompt_embeddings": table_PW})


def multitask_adapter_files(
    *,
    shared_PD: Tensor,
    task_cols_TPr: Tensor,
    task_rows_TrD: Tensor,
    base_model: str,
    encoder_decoder: bool = False,
    submodules: int = 1,
) -> dict[str, bytes]:
    """Prompts of T tasks, each shared x (its columns @ its rows), elementwise, as an adapter's files.

    With two submodules, P counts the virtual tokens of both. PEFT's `task_ids` choose each row's task
    (Wang et al. 2023, section 3.1).
    """
    config = AdapterConfig(
        peft_type="MULTITASK_PROMPT_TUNING",
        task_type=ENCODER_DECODER if encoder_decoder else CAUSAL,
        base_model_name_or_path=base_model,
        num_virtual_tokens=shared_PD.shape[0] // submodules,
        num_transformer_submodules=submodules,
        token_dim=shared_PD.shape[1],
        num_tasks=task_cols_TPr.shape[0],
        num_ranks=task_cols_TPr.shape[2],
    )
    return _files(
        config,
        {
            "prompt_embeddings": shared_PD,
            "prefix_task_cols": task_cols_TPr,
            "prefix_task_rows": task_rows_TrD,
        },
    )


def flattened(keys_LHPK: Tensor, values_LHPK: Tensor) -> Tensor:
    """Keys and values as one row for each token, layer by layer, keys before values: [P, 2 L H K]."""
    return torch.stack((keys_LHPK, values_LHPK)).permute(3, 1, 0, 2, 4).flatten(1)


def _files(config: AdapterConfig, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    known = {name: value for name, value in asdict(config).items() if value is not None}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return {
        CONFIG: (json.dumps(known, indent=2) + "\n").encode(),
        WEIGHTS: save(whole, metadata={"format": "pt"}),
    }
