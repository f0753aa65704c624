"""A finished prompt on disk: the bank alone, in safetensors, with a few lines of metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from softcue.contracts import PromptBank, Vote
from softcue.errors import RunError

FACTOR = "factor."
"""In front of the names of tensors that made the bank and are no part of it."""


def bank_to_bytes(
    bank: PromptBank, metadata: Mapping[str, str], factors: Mapping[str, Tensor] | None = None
) -> bytes:
    """The bank as the content of a safetensors file; nothing in it can be executed on reading."""
    tensors = {name: tensor.cpu() for name, tensor in bank.detach().tensors().items()}
    tensors |= {f"{FACTOR}{name}": tensor.cpu().contiguous() for name, tensor in (factors or {}).items()}
    content = save(tensors, metadata={**metadata, **({"vote": bank.vote} if bank.vote else {})})
    # safetensors puts the metadata in another order every time; the same prompt is the same bytes here.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]


def load_bank(path: Path) -> tuple[PromptBank, dict[str, str]]:
    """The bank and its metadata, back from `bank_to_bytes`.

    Raises:
        RunError: no such file, or not a file of ours.
    """
    tensors, metadata = _read(path)
    bank = {name: tensor for name, tensor in tensors.items() if not name.startswith(FACTOR)}
    try:
        return PromptBank(**bank, vote=cast(Vote | None, metadata.get("vote"))), metadata
    except TypeError as error:
        raise _foreign(path, error) from error


def load_extra_state(path: Path) -> dict[str, Tensor]:
    """What made the bank, by name; empty for most methods. Raises as `load_bank` does."""
    tensors, _ = _read(path)
    return {name.removeprefix(FACTOR): tensor for name, tensor in tensors.items() if name.startswith(FACTOR)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise _foreign(path, error) from error


def _foreign(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} is not a prompt that softcue saved ({error}); train it again.")
