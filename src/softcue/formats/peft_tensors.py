"""The tensors of a PEFT folder: safetensors, or a pickle of nothing but tensors."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from softcue.errors import RunError
from softcue.formats.peft import CONFIG, WEIGHTS
from softcue.formats.peft_encoders import encode
from softcue.formats.tensor_file import expect_readable, read_header, read_tensors

T = TypeVar("T")

PICKLED_WEIGHTS = "adapter_model.bin"
DTYPES = ("F64", "F32", "F16", "BF16")

# As PEFT saves an adapter, under whatever prefix a framework put around it.
_SAVED = re.compile(r"(?:^|\.)(prompt_embeddings|prefix_task_cols|prefix_task_rows)$")
# As a checkpoint of the whole PEFT model holds it: the module of the encoder, by its adapter's name.
_MODULE = re.compile(
    r"(?:^|\.)prompt_encoder\.(?:[^.]+\.)?"
    r"(embedding\.weight|(?:mlp_head|transform)\.\d+\.(?:weight|bias)|lstm_head\.\w+)$"
)


Shapes = Mapping[str, tuple[int, ...]]


def prompt_tensors(folder: Path, expected: Shapes) -> dict[str, Tensor]:
    """The prompt's tensors by PEFT's names, fp32, an encoder folded away; any others are not read.

    Raises:
        RunError: no such file, a damaged one, a pickle of more than tensors, or other shapes than those
            `expected`; where the file itself tells the shapes, before its numbers are read.
    """
    tensors = _read_tensors(folder, expected)
    saved = {name: tensor.float() for name, tensor in _named(_SAVED, tensors, folder).items()}
    module = {name: tensor.float() for name, tensor in _named(_MODULE, tensors, folder).items()}
    if "prompt_embeddings" not in saved and "embedding.weight" in module:
        try:
            saved["prompt_embeddings"] = encode(module["embedding.weight"], module)
        except (IndexError, KeyError, RuntimeError, ValueError) as error:
            raise RunError(f"{folder}: its prompt encoder cannot be run ({error}); copy it again.") from error
    _expect_shapes({name: tuple(tensor.shape) for name, tensor in saved.items()}, expected, folder)
    return saved


def _expect_shapes(found: Shapes, expected: Shapes, folder: Path) -> None:
    if found != expected:
        raise RunError(
            f"{folder} holds tensors {found}, and its {CONFIG} describes {expected}; copy both files again "
            "from one adapter."
        )


def _read_tensors(folder: Path, expected: Shapes) -> Mapping[str, Tensor]:
    """The tensors of the prompt and its encoder, by their names in the file."""
    weights, pickled = folder / WEIGHTS, folder / PICKLED_WEIGHTS
    if weights.is_file():
        header = read_header(weights)
        wanted = _relevant(header.shapes)
        expect_readable({name: header.shapes[name] for name in wanted}, weights)
        saved = _named(_SAVED, header.shapes, folder)
        # A checkpoint of the whole model may lack the embeddings, which its encoder gives.
        _expect_shapes(saved, {name: expected.get(name, ()) for name in saved}, folder)
        for name in wanted:
            if header.dtypes[name] not in DTYPES:
                raise RunError(f"{weights}: {name} is stored as {header.dtypes[name]}, not {DTYPES}.")
        return read_tensors(weights, wanted)
    if pickled.is_file():
        tensors = _read_pickle(pickled)
        wanted = _relevant(tensors)
        expect_readable({name: tuple(tensors[name].shape) for name in wanted}, pickled)
        return {name: _whole(name, tensors[name], pickled) for name in wanted}
    raise RunError(f"{folder} has neither {WEIGHTS} nor {PICKLED_WEIGHTS}; copy the adapter again.")


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    try:
        packed = _is_compressed(path)
        # A pickle can name any code to be run on reading; this reader knows tensors and runs nothing.
        content = None if packed else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Damaged bytes make these readers raise nearly anything.
        raise RunError(
            f"{path} is a pickle of more than tensors, or damaged; nothing of it was run. Have its author "
            f"save it as {WEIGHTS}."
        ) from error
    if packed:
        raise RunError(f"{path} is compressed, as PEFT saves none; have its author save it as {WEIGHTS}.")
    if not isinstance(content, Mapping):
        raise RunError(f"{path} holds a {type(content).__name__}, not tensors by name; give a PEFT adapter.")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _is_compressed(path: Path) -> bool:
    """Whether a few bytes of the file may unpack to any amount of memory."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    # Entries may also share their bytes.
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    return not stored or sum(entry.file_size for entry in entries) > path.stat().st_size


def _whole(name: str, tensor: Tensor, path: Path) -> Tensor:
    """The tensor itself, if each of its numbers is in the file: a view can repeat one of them at will."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.is_floating_point()
    if not dense or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise RunError(f"{path}: {name} does not hold all its numbers; have its author save it again.")
    return tensor


def _relevant(names: Iterable[str]) -> list[str]:
    return [name for name in names if _SAVED.search(name) or _MODULE.search(name)]


def _named(pattern: re.Pattern[str], values: Mapping[str, T], folder: Path) -> dict[str, T]:
    """The values whose names the pattern matches, by PEFT's names."""
    found: dict[str, T] = {}
    for name, value in values.items():
        match = pattern.search(name)
        if match and match[1] in found:
            raise RunError(f"{folder} holds {match[1]} twice, once as {name!r}; give one adapter.")
        if match:
            found[match[1]] = value
    return found
