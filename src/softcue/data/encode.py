"""Rows of text to rows of ids: vocabulary tokens as they are, virtual token k as -1 - k."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

import datasets
from transformers import PreTrainedTokenizerFast

from softcue.contracts import Choices
from softcue.data.labels import label_choices
from softcue.data.pool import dataset_digest
from softcue.data.task import Task
from softcue.data.template import Column, Segment, Soft, Template, Text
from softcue.errors import ConfigError, DataError
from softcue.tokenizing import Piece, RowTokenizer, Tokens

Kind = Literal["virtual", "special", "anchor", "text"]
"""What a token of a row is: a virtual token, one of the tokenizer's own in front, a word of the
template or layout, or a row's own text."""

Span = int | tuple[Text | Column, ...]
"""A slot's number of virtual tokens, or what stands between two slots."""


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """A row's ids, its label not among them, and whether its text had to be cut."""

    ids: list[int]
    was_cut: bool


class Encoder:
    """Makes rows of ids for one task, prompt layout and tokenizer.

    `max_length` limits the vocabulary tokens of a row and its longest label; virtual tokens do not
    count, so that prompts of all lengths see the same text. Longer rows lose the end of their
    columns' text, the longest column first, and never the template's words, virtual tokens or label.

    Raises a ConfigError if the longest row would not fit `max_positions`, a DataError if the
    template alone is longer than `max_length`.
    """

    def __init__(
        self,
        *,
        template: Template,
        task: Task,
        tokenizer: PreTrainedTokenizerFast,
        max_length: int | None,
        max_positions: int,
    ) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.choices: Choices = label_choices(task, template, tokenizer)
        self._tokenize = RowTokenizer(tokenizer)
        self._spans = _spans(template.segments)
        self._front = _front_tokens(tokenizer)
        self.max_length = self._fitting_length(max_length, max_positions)
        self._limit = self.max_length - max(map(len, self.choices))
        self._check_template_fits()

    @property
    def max_row_length(self) -> int:
        """Positions of the longest row possible, virtual tokens included and label excluded."""
        return self._limit + self.template.num_virtual_tokens

    def encode_row(self, fields: Mapping[str, str]) -> EncodedRow:
        """The ids of one row, cut to fit if need be."""
        ids = self._ids(fields)
        if self._num_text(ids) <= self._limit:
            return EncodedRow(ids=ids, was_cut=False)
        return EncodedRow(ids=self._ids(self._cut(fields, num_text=self._num_text(ids))), was_cut=True)

    def kinds(self, fields: Mapping[str, str]) -> list[Kind]:
        """What each token of `encode_row` is."""
        ids = self._ids(fields)
        if self._num_text(ids) > self._limit:
            fields = self._cut(fields, num_text=self._num_text(ids))
        kinds: list[Kind] = []
        front: list[Kind] = ["special"] * len(self._front)
        for span in self._spans:
            if isinstance(span, int):
                kinds += ["virtual"] * span
            else:
                kinds += front + self._word_kinds(span, fields)
                front = []
        return kinds

    def encode_dataset(self, rows: datasets.Dataset, *, cache_dir: str | None, part: str) -> list[EncodedRow]:
        """All rows, from the cache under `cache_dir` if they were encoded the same way before."""
        fingerprint = self._fingerprint(rows)
        cache_file = None if cache_dir is None else Path(cache_dir) / "encoded" / f"{fingerprint}.arrow"
        if cache_file is not None:
            cache_file.parent.mkdir(parents=True, exist_ok=True)
        encoded = rows.map(
            self._encode_columns,
            remove_columns=rows.column_names,
            keep_in_memory=cache_file is None,
            cache_file_name=None if cache_file is None else str(cache_file),
            new_fingerprint=fingerprint,
            desc=f"encoding {part} rows",
        )
        return [EncodedRow(ids=row["ids"], was_cut=row["was_cut"]) for row in encoded]

    def _encode_columns(self, fields: dict[str, str]) -> dict[str, object]:
        row = self.encode_row(fields)
        return {"ids": row.ids, "was_cut": row.was_cut}

    def _ids(self, fields: Mapping[str, str]) -> list[int]:
        ids: list[int] = []
        num_virtual = 0
        front = self._front
        for span in self._spans:
            if isinstance(span, int):
                ids += range(-1 - num_virtual, -1 - num_virtual - span, -1)
                num_virtual += span
            else:
                ids += front + self._tokens(span, fields).ids
                front = []
        return ids

    def _tokens(self, span: tuple[Text | Column, ...], fields: Mapping[str, str]) -> Tokens:
        starts = span is next(part for part in self._spans if not isinstance(part, int))
        return self._tokenize.encode([_piece(part, fields) for part in span], starts_row=starts)

    def _word_kinds(self, span: tuple[Text | Column, ...], fields: Mapping[str, str]) -> list[Kind]:
        pieces = [_piece(part, fields) for part in span]
        by_character: list[Kind] = [
            "anchor" if piece.is_template else "text" for piece in pieces for _ in piece.text
        ]
        # A token that takes the template's last space is the text's: its last character decides.
        return [by_character[max(end, 1) - 1] for _, end in self._tokens(span, fields).spans]

    def _cut(self, fields: Mapping[str, str], *, num_text: int) -> dict[str, str]:
        columns = [part.name for part in self.template.segments if isinstance(part, Column)]
        starts = {name: self._token_starts(fields[name]) for name in columns}
        lengths = [len(starts[name]) for name in columns]
        budget = sum(lengths) - (num_text - self._limit)
        while True:
            cap = _longest_cap(lengths, budget=budget)
            cut = {name: _beginning(fields[name], starts[name], num_tokens=cap) for name in starts}
            excess = self._num_text(self._ids(cut)) - self._limit
            # Cutting can join words into other tokens, so what is left is counted again.
            if excess <= 0:
                return cut
            budget -= excess

    def _token_starts(self, text: str) -> list[int]:
        piece = Piece(text=text, is_template=False)
        return [start for start, _ in self._tokenize.encode([piece], starts_row=False).spans]

    def _num_text(self, ids: Sequence[int]) -> int:
        return len(ids) - self.template.num_virtual_tokens

    def _fitting_length(self, max_length: int | None, max_positions: int) -> int:
        num_virtual, num_label = self.template.num_virtual_tokens, max(map(len, self.choices))
        wanted = num_label if max_length is None else max_length
        if num_virtual + wanted > max_positions:
            raise ConfigError(
                f"prompt.layout and data.task.template hold {num_virtual} virtual tokens, and text and label "
                f"take {wanted} tokens more (data.max_length is {max_length}); the backbone's context is "
                f"{max_positions}. Use fewer virtual tokens or a smaller data.max_length."
            )
        return max_positions - num_virtual if max_length is None else max_length

    def _check_template_fits(self) -> None:
        num_words = self._num_text(self._ids(dict.fromkeys(self.template.columns, "")))
        if num_words > self._limit:
            raise DataError(
                f"data.task.template is {num_words} tokens before any text; beside the longest label "
                f"{self._limit} fit. Raise data.max_length or shorten the template."
            )

    def _fingerprint(self, rows: datasets.Dataset) -> str:
        how = [
            "special tokens as text",  # since then another encoding of the same rows
            repr(self.template),
            self.tokenizer.backend_tokenizer.to_str(),
            self._front,
            self._limit,
            dataset_digest(rows),
        ]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]


def _spans(segments: Sequence[Segment]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for is_soft, group in groupby(segments, key=lambda part: isinstance(part, Soft)):
        parts = tuple(group)
        if is_soft:
            spans += [part.num_tokens for part in parts if isinstance(part, Soft)]
        else:
            spans.append(tuple(part for part in parts if not isinstance(part, Soft)))
    return tuple(spans)


def _piece(part: Text | Column, fields: Mapping[str, str]) -> Piece:
    if isinstance(part, Text):
        return Piece(text=part.text, is_template=True)
    return Piece(text=fields[part.name], is_template=False)


def _front_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The special tokens that this tokenizer itself puts in front of a text."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    return ids[: encoding["special_tokens_mask"].index(0)]


def _longest_cap(lengths: Sequence[int], *, budget: int) -> int:
    """The most tokens each column may keep so that together they keep at most `budget`."""
    caps = range(max(lengths) + 1)
    return max(bisect_right(caps, budget, key=lambda cap: sum(min(cap, length) for length in lengths)) - 1, 0)


def _beginning(text: str, starts: Sequence[int], *, num_tokens: int) -> str:
    return text if num_tokens >= len(starts) else text[: starts[num_tokens]].rstrip()
