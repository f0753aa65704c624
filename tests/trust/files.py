"""Small adapters, and files that declare any size and take no room."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import torch

from softcue.contracts import PromptBank
from softcue.formats.peft import adapter_files
from tests.tiny import HIDDEN

TOKENS = 3


def adapter_in(folder: Path) -> Path:
    """Write a prompt of zeros as PEFT saves it."""
    bank = PromptBank(embeddings_TPD=torch.zeros(1, TOKENS, HIDDEN))
    for name, content in adapter_files(bank, peft_type="PROMPT_TUNING", base_model="tiny").items():
        (folder / name).write_bytes(content)
    return folder


def sparse(path: Path, shapes: dict[str, list[int]], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file of any size, up to what a file system can name, that takes no room on the disk."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, shape in shapes.items():
        size = 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(min(8 + len(text) + end, 2**42))
