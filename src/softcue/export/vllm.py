"""A trained prompt as vLLM takes it: the vectors of its virtual tokens, and code that makes whole rows.

vLLM reads a request's prompt as embeddings (`prompt_embeds`), so a row is the vectors of its words from the
model's own table, with the virtual tokens anywhere between them.
"""

from __future__ import annotations

from collections.abc import Mapping

from safetensors.torch import save

from softcue.data.template import Column, Soft, Template
from softcue.errors import ConfigError
from softcue.export.adapter import EMBEDS, card_and_prompt, expect_plain
from softcue.trained import TrainedPrompt

NAME = "virtual_tokens"
"""The tensor of virtual tokens [P, D] in the file."""
RowPart = int | str | list[str]
"""So many virtual tokens, words, or a column by its name."""


def vllm_files(prompts: Mapping[str, TrainedPrompt], *, name: str) -> dict[str, bytes]:
    """The files of the folder `name`: embeddings for vLLM, and a trained prompt for `softcue.load` as well.

    Raises:
        ConfigError: a prompt that is no embeddings, or several.
    """
    if len(prompts) > 1:
        raise ConfigError(f"vLLM takes one prompt, and this run has {list(prompts)}; choose one with task=.")
    ((task, prompt),) = prompts.items()
    expect_plain(prompt, "vLLM")
    vectors_TPD = prompt.bank.embeddings_TPD
    if vectors_TPD is not None and prompt.encoder_decoder:
        raise ConfigError(
            f"{prompt.folder} is for {prompt.record.backbone}, an encoder-decoder, and vLLM's prompt_embeds "
            "are rows of decoders; export it for PEFT."
        )
    if vectors_TPD is None or prompt.bank.num_prompts > 1:
        raise ConfigError(
            f"{prompt.folder} ({prompt.record.method}) is not the embeddings of one prompt, which vLLM's "
            "prompt_embeds are made from. Export a run of prompt tuning, P-tuning or multitask prompts."
        )
    # Only a chat's template needs the model's tokenizer.
    template = prompt.encoder.template if prompt.parts.chat else prompt.template
    files = card_and_prompt({task: prompt}, name=name, kind=None, licence=None, vllm_row=row_parts(template))
    return {
        EMBEDS: save({NAME: vectors_TPD[0].contiguous()}, {"backbone": prompt.record.backbone or ""}),
        **files,
    }


def row_parts(template: Template) -> list[RowPart]:
    """A row as plain values, for code that knows nothing of softcue."""
    return [
        part.num_tokens if isinstance(part, Soft) else [part.name] if isinstance(part, Column) else part.text
        for part in template.segments
    ]
