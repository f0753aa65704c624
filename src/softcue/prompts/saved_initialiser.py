"""Start from a trained prompt: soft prompt transfer (SPoT, Vu et al. 2022, arXiv 2110.07904, section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softcue.contracts import BackboneSpec, PromptBank
from softcue.errors import ConfigError
from softcue.formats.peft import flattened
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.saved_prompt import expect_start, read_prompt


@dataclass(frozen=True, kw_only=True)
class Saved(Initialiser):
    """The prompt of a complete run or of a PEFT adapter, with as many virtual tokens as the new one.

    Embeddings start the methods that start from embeddings: prompt tuning as they are, prefix tuning
    as the keys and values that they give in the frozen model, P-tuning as the input of its encoder.
    Keys and values start prefix tuning that draws them directly.
    """

    path: str
    member: int | None

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        bank, _ = read_prompt(self.path, spec=spec, member=self.member, key="prompt.initialiser")
        where = f"prompt.initialiser.path={self.path}"
        return start_vectors(bank, num_tokens=num_tokens, width=width, where=where)


def start_vectors(bank: PromptBank, *, num_tokens: int, width: int, where: str) -> Tensor:
    """The numbers of a bank's only prompt, token by token: [P, width].

    Raises:
        ConfigError: the prompt has another form or another number of virtual tokens, or it enters above the
            first layer; `where` names it.
    """
    expect_start(bank, where)
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        table_PW = flattened(bank.keys_TLHPK[0], bank.values_TLHPK[0])
        form, way_out = "keys and values", "prompt=prefix_tuning prompt.method.through_backbone=false"
    else:
        assert bank.embeddings_TPD is not None, "a saved prompt has virtual tokens"
        table_PW = bank.embeddings_TPD[0]
        if bank.decoder_embeddings_TPD is not None:
            table_PW = torch.cat([table_PW, bank.decoder_embeddings_TPD[0]])
        form, way_out = "embeddings", "prompt=prompt_tuning, prefix_tuning or p_tuning"
    if table_PW.shape[1] != width:
        raise ConfigError(
            f"{where} holds {form} of {table_PW.shape[1]} numbers a token, and this prompt starts from "
            f"{width}; choose {way_out}."
        )
    if len(table_PW) != num_tokens:
        raise ConfigError(
            f"{where} has {len(table_PW)} virtual tokens, and this prompt {num_tokens}; set "
            f"prompt.layout='\"[soft:{len(table_PW)}]{{input}}\"'."
        )
    return table_PW.clone()
