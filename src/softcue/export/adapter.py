"""A trained prompt as the files of a PEFT adapter, with a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from softcue.data.template import Soft
from softcue.errors import ConfigError, RunError
from softcue.export.card import Shipped, model_card
from softcue.formats.peft import CONFIG, PeftType, adapter_files, multitask_adapter_files
from softcue.formats.prompt_file import PROMPT, load_extra_state
from softcue.trained import TrainedPrompt, load, tasks_of

EMBEDS = "prompt_embeds.safetensors"
"""The file of an export for vLLM."""


def load_all(run: str, *, task: str | None) -> dict[str, TrainedPrompt]:
    """The prompts of a run by task: that of one task, or of all."""
    chosen = [task] if task is not None else tasks_of(run)
    return {name: load(run, task=name) for name in chosen}


def peft_files(
    prompts: Mapping[str, TrainedPrompt], *, name: str, licence: str | None = None
) -> dict[str, bytes]:
    """The files of the folder `name`: a PEFT adapter, and a trained prompt for `softcue.load` as well.

    Raises:
        ConfigError: a prompt that PEFT cannot hold, with the reason.
    """
    prompt = next(iter(prompts.values()))
    expect_leading(prompt)
    base = base_model(prompt)
    if len(prompts) > 1:
        kind: PeftType = "MULTITASK_PROMPT_TUNING"
        shared_PD, task_cols_TPr, task_rows_TrD = _factors(prompts)
        adapter = multitask_adapter_files(
            shared_PD=shared_PD,
            task_cols_TPr=task_cols_TPr,
            task_rows_TrD=task_rows_TrD,
            base_model=base,
            encoder_decoder=prompt.encoder_decoder,
            submodules=1 if prompt.bank.decoder_embeddings_TPD is None else 2,
        )
    else:
        kind = peft_type(prompt)
        if kind == "MULTITASK_PROMPT_TUNING" and prompt.writes_texts:
            raise ConfigError(
                f"{prompt.folder} has virtual tokens before the decoder, which PEFT's generate leaves out; "
                "use softcue.load, or train with prompt.submodules=1."
            )
        adapter = adapter_files(
            prompt.bank, peft_type=kind, base_model=base, encoder_decoder=prompt.encoder_decoder
        )
    return {**adapter, **card_and_prompt(prompts, name=name, kind=kind, licence=licence)}


def hub_files(prompt: TrainedPrompt, *, name: str, licence: str | None) -> dict[str, bytes]:
    """The files of a repository `name`: those of an export, or without an adapter if PEFT cannot hold it."""
    prompts = {prompt.task.name: prompt}
    try:
        return peft_files(prompts, name=name, licence=licence)
    except ConfigError:
        return card_and_prompt(prompts, name=name, kind=None, licence=licence)


def card_and_prompt(
    prompts: Mapping[str, TrainedPrompt],
    *,
    name: str,
    kind: PeftType | None,
    licence: str | None,
    vllm_row: Sequence[int | str | list[str]] | None = None,
) -> dict[str, bytes]:
    """The model card, and the files that `softcue.load` reads; `vllm_row` is a row for vLLM."""
    prompt = next(iter(prompts.values()))
    shipped = Shipped(
        folder=name,
        base_model=base_model(prompt),
        peft_type=kind,
        template=prompt.template,
        tasks={task: of.task for task, of in prompts.items()},
        max_length=prompt.parts.max_length,
        licence=licence,
        vllm_row=vllm_row,
        encoder_decoder=prompt.encoder_decoder,
    )
    return {"README.md": model_card(prompt.record, shipped).encode(), **prompt.files()}


def expect_leading(prompt: TrainedPrompt) -> None:
    """Refuse a prompt that is not in front of the row alone, where PEFT puts it."""
    what, segments = f"{prompt.folder} ({prompt.record.method})", prompt.template.segments
    leading = next((at for at, part in enumerate(segments) if not isinstance(part, Soft)), len(segments))
    expect_plain(prompt, "PEFT")
    if prompt.template.num_virtual_tokens == 0:
        raise ConfigError(f"{what} has no virtual tokens, only words; there is nothing that PEFT could load.")
    if any(isinstance(part, Soft) for part in segments[leading:]):
        raise ConfigError(
            f"{what} has layout {prompt.layout!r}, and PEFT puts virtual tokens in front of a row and "
            'nowhere else; export a prompt trained with a layout such as "[soft:20]{input}".'
        )
    if prompt.parts.chat and prompt.bank.keys_TLHPK is None:
        raise ConfigError(
            f"{what} was trained with backbone.chat=true, inside the user's turn, and PEFT puts virtual "
            "tokens in front of a row. Export with to=vllm, which writes whole rows."
        )
    if prompt.bank.vote is not None:
        raise ConfigError(
            f"{what} is an ensemble of {prompt.bank.num_prompts} prompts that vote, and a PEFT adapter is "
            "one prompt; export the runs of its members instead."
        )


def expect_plain(prompt: TrainedPrompt, whose: str) -> None:
    """Refuse what PEFT and vLLM have no place for: entering above the first layer, looking at the row."""
    if prompt.bank.row_rule is not None:
        raise ConfigError(
            f"{prompt.folder} ({prompt.record.method}) has a prompt for each row, and {whose} takes one for "
            "all rows; share its folder, which softcue.load reads."
        )
    if prompt.bank.first_layer:
        raise ConfigError(
            f"{prompt.folder} ({prompt.record.method}) enters at layer {prompt.bank.first_layer}, and "
            f"{whose} takes prompts at the first layer alone; share its folder, which softcue.load reads."
        )


def peft_type(prompt: TrainedPrompt) -> PeftType:
    """PEFT's name for the method; PEFT loads all that give embeddings in the same way."""
    if prompt.bank.keys_TLHPK is not None:
        return "PREFIX_TUNING"
    if prompt.bank.decoder_embeddings_TPD is not None:
        return "MULTITASK_PROMPT_TUNING"
    by_encoder = prompt.parts.method.startswith("softcue.prompts.p_tuning.")
    return "P_TUNING" if by_encoder else "PROMPT_TUNING"


def base_model(prompt: TrainedPrompt) -> str:
    """The frozen model as others find it: its hub repository, else its path, else its name here."""
    named = {} if prompt.parts.backbone is None else prompt.parts.backbone.keywords
    return str(named.get("repo") or named.get("path") or prompt.record.backbone)


def expect_free(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier export, and that only with `overwrite`."""
    if not output.exists():
        return
    if not any((output / name).is_file() for name in (CONFIG, EMBEDS)):
        raise ConfigError(f"output={output} exists and is no export; give a folder that does not exist yet.")
    if not overwrite:
        raise ConfigError(f"output={output} holds an export already; set overwrite=true or another output.")


def _factors(prompts: Mapping[str, TrainedPrompt]) -> tuple[Tensor, Tensor, Tensor]:
    """The factors of the tasks' prompts, which must give those prompts."""
    prompt = next(iter(prompts.values()))
    factors = load_extra_state(prompt.folder / PROMPT)
    if factors.keys() != {"shared_PD", "task_cols_TPr", "task_rows_TrD"}:
        raise ConfigError(
            f"{prompt.folder} is a run of {prompt.record.method} over several tasks, and PEFT knows only "
            f"multitask prompts; choose one task: {list(prompts)}."
        )
    own = [
        [
            each.bank.tensors()[name]
            for name in ("embeddings_TPD", "decoder_embeddings_TPD")
            if name in each.bank.tensors()
        ]
        for each in prompts.values()
    ]
    bank_TPD = torch.cat([torch.cat(parts, dim=1) for parts in own])
    try:
        made_TPD = factors["shared_PD"] * (factors["task_cols_TPr"] @ factors["task_rows_TrD"])
        torch.testing.assert_close(made_TPD, bank_TPD, rtol=1e-4, atol=1e-5)
    except (AssertionError, RuntimeError) as error:
        raise RunError(
            f"{prompt.folder / PROMPT} holds factors that do not give its prompts; copy the folder again."
        ) from error
    return factors["shared_PD"], factors["task_cols_TPr"], factors["task_rows_TrD"]
