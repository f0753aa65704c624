"""`softcue-export`: a finished prompt → a folder that others can load."""

from __future__ import annotations

import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import hydra
from omegaconf import DictConfig
from torch import Tensor

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.data.template import Soft
from softcue.errors import ConfigError
from softcue.export.card import Shipped, model_card
from softcue.formats.peft import CONFIG, PeftType, adapter_files, multitask_adapter_files
from softcue.formats.prompt_file import load_extra_state
from softcue.runs.atomic import unwritable, write_atomic
from softcue.runs.store import RECORD
from softcue.trained import TrainedPrompt, load, tasks_of

TARGETS = ("peft",)


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="export")
@run_app
def main(settings: DictConfig) -> None:
    """Write one finished prompt out."""
    if settings.to not in TARGETS:
        raise ConfigError(f"to is {settings.to!r}; a prompt can be exported to {', '.join(TARGETS)}.")
    output = Path(settings.output).resolve()
    files = peft_files(load_all(settings.run, task=settings.task), name=output.name)
    expect_free(output, overwrite=settings.overwrite)
    listing = ", ".join(f"{name} ({len(content):,} bytes)" for name, content in files.items())
    if settings.dry:
        sys.stdout.write(f"{output} would hold {listing}\n")
        return
    write_folder(output, files)
    sys.stdout.write(f"{output} holds {listing}\n")


def load_all(run: str, *, task: str | None) -> dict[str, TrainedPrompt]:
    """The prompts of a run by task: of the one asked for, or of all."""
    chosen = [task] if task is not None else tasks_of(run)
    return {name: load(run, task=name) for name in chosen}


def peft_files(prompts: Mapping[str, TrainedPrompt], *, name: str) -> dict[str, bytes]:
    """The files of the folder `name`: a PEFT adapter, and a finished prompt of ours as well.

    Raises:
        ConfigError: a prompt that PEFT cannot hold, with the reason.
    """
    prompt = next(iter(prompts.values()))
    expect_leading(prompt)
    base = base_model(prompt)
    if len(prompts) > 1:
        kind: PeftType = "MULTITASK_PROMPT_TUNING"
        adapter = multitask_adapter_files(**_factors(prompt), base_model=base)
    else:
        kind = peft_type(prompt)
        adapter = adapter_files(prompt.bank, peft_type=kind, base_model=base)
    shipped = Shipped(
        folder=name, base_model=base, peft_type=kind, template=prompt.template, tasks=tuple(prompts)
    )
    return {
        **adapter,
        "README.md": model_card(prompt.record, shipped).encode(),
        RECORD: (prompt.folder / RECORD).read_bytes(),
        "prompt.safetensors": (prompt.folder / "prompt.safetensors").read_bytes(),
    }


def _factors(prompt: TrainedPrompt) -> dict[str, Tensor]:
    factors = load_extra_state(prompt.folder / "prompt.safetensors")
    if not factors:
        raise ConfigError(
            f"{prompt.folder} is a run of {prompt.record.method} over several tasks, and PEFT knows only "
            f"multitask prompts; choose one task: {list(prompt.record.settings['data']['tasks'])}."
        )
    return factors


def expect_leading(prompt: TrainedPrompt) -> None:
    """PEFT puts one prompt in front of a row, and nowhere else."""
    what, segments = f"{prompt.folder} ({prompt.record.method})", prompt.template.segments
    leading = next((at for at, part in enumerate(segments) if not isinstance(part, Soft)), len(segments))
    if prompt.template.num_virtual_tokens == 0:
        raise ConfigError(f"{what} has no virtual tokens, only words; there is nothing that PEFT could load.")
    if any(isinstance(part, Soft) for part in segments[leading:]):
        raise ConfigError(
            f"{what} has layout {prompt.layout!r}, and PEFT puts virtual tokens in front of a row and "
            'nowhere else; export a prompt trained with a layout such as "[soft:20]{input}".'
        )
    if prompt.bank.vote is not None:
        raise ConfigError(
            f"{what} is an ensemble of {prompt.bank.num_prompts} prompts that vote, and a PEFT adapter is "
            "one prompt; export the runs of its members instead."
        )


def peft_type(prompt: TrainedPrompt) -> PeftType:
    """What PEFT calls the method; its own loading is the same for all that give embeddings."""
    if prompt.bank.keys_TLHPK is not None:
        return "PREFIX_TUNING"
    by_encoder = str(prompt.settings.prompt.method._target_).startswith("softcue.prompts.p_tuning.")
    return "P_TUNING" if by_encoder else "PROMPT_TUNING"


def base_model(prompt: TrainedPrompt) -> str:
    """The frozen model as others find it: its hub repository, else its path, else its name here."""
    backbone = prompt.settings.backbone
    return str(backbone.get("repo") or backbone.get("path") or backbone.name)


def expect_free(output: Path, *, overwrite: bool) -> None:
    """Only an earlier export may be replaced, and only if asked."""
    if not output.exists():
        return
    if not (output / CONFIG).is_file():
        raise ConfigError(f"output={output} exists and is no export; give a folder that does not exist yet.")
    if not overwrite:
        raise ConfigError(f"output={output} holds an export already; set overwrite=true or another output.")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a whole folder, in place of an earlier one, or leave everything as it is.

    Raises:
        RunError: the place takes no files.
    """
    mark = secrets.token_hex(4)
    scratch, earlier = (folder.with_name(f".{folder.name}.{mark}.{end}") for end in ("tmp", "old"))
    try:
        scratch.mkdir(parents=True)
        for name, content in files.items():
            write_atomic(scratch / name, content)
        if folder.exists():
            folder.rename(earlier)
        scratch.rename(folder)
    except OSError as error:
        if earlier.exists():
            earlier.rename(folder)
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(earlier, ignore_errors=True)


if __name__ == "__main__":
    main()
