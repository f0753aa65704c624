"""A finished prompt on disk: the bank alone, in safetensors, with a few lines of metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from softcue.contracts import PromptBank, Vote
from softcue.errors import RunError


def bank_to_bytes(bank: PromptBank, metadata: Mapping[str, str]) -> bytes:
    """The bank as the content of a safetensors file; nothing in it can be executed on reading."""
    tensors = {name: tensor.cpu() for name, tensor in bank.detach().tensors().items()}
    return save(tensors, metadata={**metadata, **({"vote": bank.vote} if bank.vote else {})})


def load_bank(path: Path) -> tuple[PromptBank, dict[str, str]]:
    """The bank and its metadata, back from `bank_to_bytes`.

    Raises:
        RunError: no such file, or not a file of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            metadata = dict(file.metadata() or {})
        vote = cast(Vote | None, metadata.get("vote"))
        return PromptBank(**tensors, vote=vote), metadata
    except (OSError, SafetensorError, TypeError) as error:
        raise RunError(f"{path} is not a prompt that softcue saved ({error}); train it again.") from error
