"""Tensors of a received safetensors file: their names and shapes are judged before a number is read."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from softcue.errors import RunError

MAX_NUMBERS = 2**29
"""Numbers of a prompt: a prefix of 3,000 virtual tokens for a model of 70 billion parameters has fewer."""

# RuntimeError: torch cannot map a file that declares more than the machine's memory.
_UNREADABLE = (OSError, RuntimeError, SafetensorError)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a safetensors file says of its tensors, and its metadata."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    """In safetensors' own words, such as "F32"."""
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header alone.

    Raises:
        RunError: not a safetensors file.
    """
    try:
        with safe_open(_regular(path), framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return Header(
                shapes={name: tuple(part.get_shape()) for name, part in slices.items()},
                dtypes={name: part.get_dtype() for name, part in slices.items()},
                metadata=dict(file.metadata() or {}),
            )
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def read_tensors(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    """Some of a file's tensors, which must be finite; raises as `read_header` does."""
    try:
        with safe_open(_regular(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    expect_finite(tensors, path)
    return tensors


def expect_readable(shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse tensors that are empty, or larger together than a prompt can be."""
    for name, shape in shapes.items():
        if 0 in shape:
            raise RunError(f"{path}: {name} has shape {shape}, so no number; train or copy it again.")
    count = sum(math.prod(shape) for shape in shapes.values())
    if count > MAX_NUMBERS:
        raise RunError(f"{path} declares {count:,} numbers; a prompt has at most {MAX_NUMBERS:,}.")


def expect_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse NaN and infinities, with which every row would get the first class."""
    for name, tensor in tensors.items():
        count = int((~torch.isfinite(tensor)).sum())
        if count:
            raise RunError(
                f"{path}: {name} has {count:,} numbers that are NaN or infinite, so nothing can be predicted "
                "with it; train again with a lower learning rate, or copy the file again."
            )


def _regular(path: Path) -> Path:
    # A named pipe would be waited for.
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    return path


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} is not a readable safetensors file ({error}); train or copy it again.")
