"""A trained prompt on disk: the bank alone, in safetensors, with a few lines of metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from safetensors.torch import save
from torch import Tensor

from softcue.contracts import PromptBank, Vote
from softcue.errors import RunError
from softcue.formats.source import PromptShape, PromptSource, embedding_sizes, key_value_sizes
from softcue.formats.tensor_file import expect_readable, read_header, read_tensors
from softcue.row_rules import KINDS, PREFIX, RowRule, wrong_shapes

PROMPT = "prompt.safetensors"

ATTENTIONS = "attentions"
"""The metadata that names the kinds of attention that keys and values are for."""

KIND, ENCODER_DECODER = "kind", "encoder-decoder"
"""The metadata of a prompt for a model of an encoder and a decoder."""
FIRST_LAYER = "first_layer"
"""The metadata that names the layer which a prompt enters, if it is above the first."""

ROW_RULE = "row_rule"
"""The metadata that names how rows mix the prompts."""

MAX_DIGITS = 6

FACTOR = "factor."
"""In front of the names of tensors that made the bank and are no part of it."""

EMBEDDINGS, DECODER, LENGTHS = "embeddings_TPD", "decoder_embeddings_TPD", "lengths_T"
KEYS, VALUES = "keys_TLHPK", "values_TLHPK"
RANKS = {EMBEDDINGS: 3, DECODER: 3, KEYS: 5, VALUES: 5, LENGTHS: 1}
FORMS = ({EMBEDDINGS}, {EMBEDDINGS, DECODER}, {KEYS, VALUES}, set[str]())
"""The tensors of embeddings, of those before encoder and decoder, of keys and values, and of a prompt without
virtual tokens."""


def bank_to_bytes(
    bank: PromptBank, metadata: Mapping[str, str], factors: Mapping[str, Tensor] | None = None
) -> bytes:
    """The bank as the content of a safetensors file; nothing in it can be executed on reading."""
    tensors = {name: tensor.cpu() for name, tensor in bank.detach().tensors().items()}
    tensors |= {f"{FACTOR}{name}": tensor.cpu().contiguous() for name, tensor in (factors or {}).items()}
    own = {
        "vote": bank.vote,
        ATTENTIONS: bank.attentions and " ".join(bank.attentions),
        FIRST_LAYER: str(bank.first_layer or ""),
        ROW_RULE: bank.row_rule and bank.row_rule.kind,
    }
    content = save(tensors, metadata={**metadata, **{name: value for name, value in own.items() if value}})
    # safetensors orders the metadata differently every time; the same prompt is the same bytes here.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]


@dataclass(frozen=True, kw_only=True)
class PromptFile(PromptSource):
    """A prompt.safetensors whose header was checked."""

    path: Path
    vote: Vote | None
    metadata: Mapping[str, str]
    own: frozenset[str]
    """The bank's tensors."""
    num_numbers: int
    """Numbers in them."""
    factors: frozenset[str]
    """The tensors of `load_extra_state`, as they are named in the file."""

    def bank(self) -> PromptBank:
        tensors = read_tensors(self.path, self.own)
        if LENGTHS in tensors:
            self._check_lengths(tensors[LENGTHS].tolist())
        return PromptBank(
            embeddings_TPD=tensors.get(EMBEDDINGS),
            keys_TLHPK=tensors.get(KEYS),
            values_TLHPK=tensors.get(VALUES),
            decoder_embeddings_TPD=tensors.get(DECODER),
            lengths_T=tensors.get(LENGTHS),
            first_layer=self.shape.first_layer,
            vote=self.vote,
            attentions=self.shape.attentions,
            row_rule=self.shape.row_rule and RowRule.of(self.shape.row_rule, tensors),
        )

    def _check_lengths(self, lengths: list[int]) -> None:
        if min(lengths) < 1 or max(lengths) != self.shape.num_tokens:
            raise RunError(
                f"{self.path}: {LENGTHS} is {lengths}; lengths are 1 to {self.shape.num_tokens}, and one is "
                "the longest. Train or copy it again."
            )


def open_prompt(path: Path) -> PromptFile:
    """Check a prompt.safetensors by its header: no number is read yet.

    Raises:
        RunError: not a file of ours: tensors missing or too many, or shapes that do not fit together.
    """
    header = read_header(path)
    factors = frozenset(name for name in header.shapes if name.startswith(FACTOR))
    own = frozenset(header.shapes) - factors
    expect_readable(header.shapes, path)
    _check_names(own, path)
    for name, dtype in header.dtypes.items():
        expected = "I64" if name == LENGTHS else "F32"
        if dtype != expected:
            raise RunError(f"{path}: {name} is stored as {dtype}, not {expected}; train or copy it again.")
    _check_row_rule({name: header.shapes[name] for name in own}, header.metadata.get(ROW_RULE), path)
    vote = header.metadata.get("vote")
    if vote not in (None, *get_args(Vote)):
        raise RunError(f"{path} has vote {vote!r:.40}; it is {' or '.join(get_args(Vote))}.")
    return PromptFile(
        path=path,
        shape=replace(
            _shape(
                {name: header.shapes[name] for name in own if not name.startswith(PREFIX)},
                path,
                header.metadata.get(ATTENTIONS),
            ),
            **_as_one(header.metadata.get(ROW_RULE)),
            first_layer=_first_layer(header.metadata, path),
        ),
        made_for=header.metadata.get("backbone"),
        layout=header.metadata.get("layout"),
        vote=cast(Vote | None, vote),
        metadata=header.metadata,
        own=own,
        num_numbers=sum(math.prod(header.shapes[name]) for name in own),
        factors=factors,
    )


def load_bank(path: Path) -> tuple[PromptBank, dict[str, str]]:
    """The bank and its metadata, as given to `bank_to_bytes`.

    Raises:
        RunError: no such file, not a file of ours, or numbers that are not finite.
    """
    prompt = open_prompt(path)
    return prompt.bank(), dict(prompt.metadata)


def load_extra_state(path: Path) -> dict[str, Tensor]:
    """What made the bank, by name; empty for most methods. Raises as `load_bank` does."""
    tensors = read_tensors(path, open_prompt(path).factors)
    return {name.removeprefix(FACTOR): tensor for name, tensor in tensors.items()}


def _as_one(row_rule: str | None) -> dict[str, Any]:
    return {} if row_rule is None else {"row_rule": row_rule, "num_prompts": 1}


def _check_row_rule(shapes: Mapping[str, tuple[int, ...]], kind: str | None, path: Path) -> None:
    own = {name.removeprefix(PREFIX): shape for name, shape in shapes.items() if name.startswith(PREFIX)}
    prompts, _, width = (*shapes.get(EMBEDDINGS, ()), 0, 0, 0)[:3]
    if kind is None:
        wrong = f"{sorted(own)}, and no {ROW_RULE} in its metadata" if own else None
    elif kind not in KINDS:
        wrong = f"{ROW_RULE} {kind!r:.40}; it is one of {', '.join(KINDS)}"
    elif {EMBEDDINGS, LENGTHS} & shapes.keys() != {EMBEDDINGS}:
        wrong = f"{ROW_RULE} {kind} and no {EMBEDDINGS} of one length"
    else:
        wrong = wrong_shapes(kind, own, prompts=prompts, width=width)
    if wrong:
        raise RunError(f"{path} has {wrong}. Train or copy it again.")


def _check_names(own: frozenset[str], path: Path) -> None:
    present = {name for name in own - {LENGTHS} if not name.startswith(PREFIX)}
    closest = min(FORMS, key=lambda form: len(form ^ present))
    missing, excess = sorted(closest - present), sorted(present - closest)
    if missing or excess:
        raise RunError(
            f"{path} is not a prompt that softcue saved: it lacks {missing} and has {excess} besides; train "
            "or copy it again."
        )


def _first_layer(metadata: Mapping[str, str], path: Path) -> int:
    text = metadata.get(FIRST_LAYER, "0")
    if not (text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS):
        raise RunError(f"{path} has {FIRST_LAYER} {text!r:.40}, which is no layer; train or copy it again.")
    return int(text)


def _shape(shapes: Mapping[str, tuple[int, ...]], path: Path, attentions: str | None) -> PromptShape:
    for name, shape in shapes.items():
        if len(shape) != RANKS[name]:
            raise RunError(f"{path}: {name} has shape {shape}; it has {RANKS[name]} axes. Copy it again.")
    if EMBEDDINGS in shapes:
        prompts, tokens, width = shapes[EMBEDDINGS]
        if shapes.get(DECODER, shapes[EMBEDDINGS]) != shapes[EMBEDDINGS]:
            raise RunError(
                f"{path}: {EMBEDDINGS} has shape {shapes[EMBEDDINGS]} and {DECODER} {shapes[DECODER]}. "
                "Copy it again."
            )
        sizes = embedding_sizes(hidden_size=width)
    elif KEYS in shapes:
        prompts, layers, heads, tokens, key_size = shapes[KEYS]
        sizes = key_value_sizes(layers=layers, heads=heads, key_size=key_size, value_size=shapes[VALUES][4])
        if shapes[VALUES][:4] != shapes[KEYS][:4]:
            raise RunError(f"{path}: keys are {shapes[KEYS]} and values {shapes[VALUES]}. Copy it again.")
    else:
        prompts, tokens, sizes = 1, 0, {}
    if LENGTHS in shapes and (not sizes or shapes[LENGTHS] != (prompts,)):
        raise RunError(f"{path}: {LENGTHS} has shape {shapes[LENGTHS]} for {prompts} prompts. Copy it again.")
    return PromptShape(
        num_prompts=prompts,
        num_tokens=tokens,
        sizes=sizes,
        submodules=2 if DECODER in shapes else 1,
        attentions=tuple(attentions.split()) if attentions and KEYS in shapes else None,
    )
