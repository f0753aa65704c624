"""A prompt as a .npy file [P, D], the form in which google-research/prompt-tuning releases its prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from softcue.contracts import PromptBank
from softcue.errors import RunError
from softcue.formats.source import PromptShape, PromptSource, embedding_sizes
from softcue.formats.tensor_file import expect_finite, expect_readable

SUFFIX = ".npy"
NUMBERS = ("float16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class NumpyPrompt(PromptSource):
    """A .npy file whose header was checked: the embeddings of one prompt, for an unnamed model."""

    path: Path

    def bank(self) -> PromptBank:
        table_PD = torch.from_numpy(_mapped(self.path).astype(np.float32))
        expect_finite({"the prompt": table_PD}, self.path)
        return PromptBank(embeddings_TPD=table_PD[None])


def open_numpy(path: Path) -> NumpyPrompt:
    """Check a .npy file by its header.

    Raises:
        RunError: no array of numbers [P, D], or a damaged file. A pickle is never read.
    """
    array = _mapped(path)
    if array.ndim != 2 or str(array.dtype) not in NUMBERS:
        raise RunError(
            f"{path} has an array of {array.dtype} of shape {array.shape}; a prompt is "
            f"[tokens, hidden size] of {', '.join(NUMBERS)}."
        )
    expect_readable({"the prompt": array.shape}, path)
    count, width = array.shape
    shape = PromptShape(num_prompts=1, num_tokens=count, sizes=embedding_sizes(hidden_size=width))
    return NumpyPrompt(path=path, shape=shape, made_for=None, layout=None)


def _mapped(path: Path) -> np.memmap:
    try:
        array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise RunError(f"{path} is no .npy file of numbers ({error}); copy it again.") from error
    return array
