"""Rows of text to rows of ids: a vocabulary token as its id, virtual token k as -1 - k."""

from __future__ import annotations

import hashlib
import json
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.progress import track

from softcue.data.chat import Turn
from softcue.data.columns import Columns
from softcue.data.encoded import EncodedRow, read_encoded, write_encoded
from softcue.data.labels import TargetEncoder, TargetPlace, label_choices
from softcue.data.task import Task, TextTask
from softcue.data.template import Column, Soft, Template, TemplateSegment, Words
from softcue.errors import ConfigError, DataError
from softcue.tokenizing import Piece, RowTokenizer, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from softcue.contracts import Choices

Kind = Literal["virtual", "special", "template", "text"]
"""A token's origin: a virtual token, a special token that the tokenizer puts in front of a text, the
words of the template or layout, or the row's own text."""

PROGRESS_BAR_MIN_ROWS = 2000
"""Fewer are encoded within a second."""

Fields = Mapping[str, str]
"""A row's columns by name."""


@dataclass(frozen=True, kw_only=True)
class _Passage:
    """Words and columns between two slots of virtual tokens; tokens may span them."""

    parts: tuple[Words | Column, ...]
    starts_row: bool
    """Whether no other passage comes before it."""


class Encoder:
    """Encodes rows for one task, prompt layout and tokenizer.

    `max_length` limits the vocabulary tokens of a row and its longest label together. Virtual tokens
    do not count, so prompts of all lengths see the same text. A longer row loses the end of its columns'
    text, the longest column first; the template's words, the virtual tokens and the label are never cut.
    In a text task, the place of the longest label is taken by `max_target_length` tokens. `turn` puts the
    template into the user's turn of a chat.

    Raises:
        ConfigError: the longest row would not fit into `max_positions`, or a text task lacks
            `max_target_length` or an end token.
        DataError: the template alone is longer than `max_length`.
    """

    def __init__(
        self,
        *,
        template: Template,
        task: Task,
        tokenizer: PreTrainedTokenizerFast,
        max_length: int | None,
        max_positions: int,
        max_target_length: int | None = None,
        turn: Turn | None = None,
        targets_apart: bool = False,
    ) -> None:
        self.template = template if turn is None else turn.around(template)
        self.tokenizer, self._targets_apart = tokenizer, targets_apart
        self.front, back = special_tokens(tokenizer)
        """The special tokens that the tokenizer puts in front of a text."""
        self._back = back if targets_apart else []
        self._rows = RowTokenizer(tokenizer)
        # The answer of a chat begins where the turn ends; elsewhere a space comes first.
        place = TargetPlace(before=self._last_words, space=" " if turn is None else "")
        if targets_apart:
            place = TargetPlace(is_apart=True, front=tuple(self.front))
        is_text = isinstance(task, TextTask)
        self.target: TargetEncoder | None = (
            TargetEncoder(
                self._rows,
                place=place,
                max_length=max_target_length,
                end_token=tokenizer.eos_token_id,
            )
            if is_text
            else None
        )
        self.choices: Choices = (
            ()
            if is_text
            else label_choices(
                task,
                self._rows,
                place=place,
                end_token=tokenizer.eos_token_id,
            )
        )
        """The label tokens of each class; none in a text task."""
        self._spans = _spans(self.template.segments)
        self.max_length = self._fitting_length(max_length, max_positions)
        self._limit = self.max_length - (0 if targets_apart else self.longest_target)
        self._check_template_fits()

    @property
    def _last_words(self) -> str:
        """The template's words before the label or text."""
        last = self.template.segments[-1]
        return last.text if isinstance(last, Words) else ""

    @property
    def longest_target(self) -> int:
        """Tokens of the longest label, or of the longest text that may follow a row."""
        return max(map(len, self.choices)) if self.target is None else self.target.max_length

    @property
    def max_row_length(self) -> int:
        """Positions of the longest possible row, virtual tokens included and label excluded."""
        return self._limit + self.template.num_virtual_tokens

    def encode_row(self, fields: Fields) -> EncodedRow:
        """The ids of one row, its text cut if necessary."""
        fitted, ids = self._fit(fields)
        return EncodedRow(ids=ids, was_cut=fitted is not fields)

    def kinds(self, fields: Fields) -> list[Kind]:
        """The kind of each token of `encode_row`."""
        fitted, _ = self._fit(fields)
        kinds: list[Kind] = []
        for span in self._spans:
            if isinstance(span, int):
                kinds += ["virtual"] * span
            else:
                kinds += ["special"] * len(self.front) if span.starts_row else []
                kinds += self._passage_kinds(span, fitted)
        kinds += ["special"] * len(self._back)
        return kinds

    def encode_dataset(self, rows: Columns, *, cache_dir: str | None, part: str) -> list[EncodedRow]:
        """All rows; read from the cache under `cache_dir` if the same rows were encoded this way before."""
        if not len(rows):
            return []
        fingerprint = self._fingerprint(rows)
        cache = None if cache_dir is None else Path(cache_dir) / "encoded" / f"{fingerprint}.rows"
        if cache is not None and (known := read_encoded(cache)) is not None:
            return known
        without_bar = len(rows) < PROGRESS_BAR_MIN_ROWS or not sys.stdout.isatty()
        what = f"encode {part} rows"
        each = track(rows.rows(), total=len(rows), description=what, disable=without_bar, transient=True)
        encoded = [self.encode_row(fields) for fields in each]
        if cache is not None:
            write_encoded(cache, encoded)
        return encoded

    def _ids(self, fields: Fields) -> list[int]:
        ids: list[int] = []
        num_virtual = 0
        for span in self._spans:
            if isinstance(span, int):
                ids += range(-1 - num_virtual, -1 - num_virtual - span, -1)
                num_virtual += span
            else:
                ids += self.front if span.starts_row else []
                ids += self._tokens(span, fields).ids
        return ids + self._back

    def _tokens(self, passage: _Passage, fields: Fields) -> Tokens:
        pieces = [_piece(part, fields) for part in passage.parts]
        return self._rows.encode(pieces, starts_row=passage.starts_row)

    def _passage_kinds(self, passage: _Passage, fields: Fields) -> list[Kind]:
        pieces = [_piece(part, fields) for part in passage.parts]
        by_character: list[Kind] = [
            "template" if piece.is_template else "text" for piece in pieces for _ in piece.text
        ]
        # A token's last character decides: one that begins with the template's last space is text.
        return [by_character[max(end, 1) - 1] for _, end in self._tokens(passage, fields).spans]

    def _fit(self, fields: Fields) -> tuple[Fields, list[int]]:
        """The columns, cut as far as necessary, and the row's ids; the same `fields` if nothing is cut."""
        ids = self._ids(fields)
        excess = self._excess(ids)
        if excess <= 0:
            return fields, ids
        columns = [part.name for part in self.template.segments if isinstance(part, Column)]
        starts = {name: self._token_starts(fields[name]) for name in columns}
        lengths = [len(starts[name]) for name in columns]
        budget = sum(lengths)
        cut = dict(fields)
        while excess > 0:
            # Cutting can change how the remaining words are tokenized, so the row is counted again.
            budget -= excess
            cap = _longest_cap(lengths, budget=budget)
            cut |= {name: _beginning(fields[name], starts[name], num_tokens=cap) for name in starts}
            ids = self._ids(cut)
            excess = self._excess(ids)
        return cut, ids

    def _excess(self, ids: Sequence[int]) -> int:
        """Vocabulary tokens beyond the limit."""
        return len(ids) - self.template.num_virtual_tokens - self._limit

    def _token_starts(self, text: str) -> list[int]:
        piece = Piece(text=text, is_template=False)
        return [start for start, _ in self._rows.encode([piece], starts_row=False).spans]

    def _fitting_length(self, max_length: int | None, max_positions: int) -> int:
        num_virtual, num_label = self.template.num_virtual_tokens, self.longest_target
        wanted = num_label if max_length is None else max_length
        if num_virtual + wanted > max_positions:
            raise ConfigError(
                f"prompt.layout and data.task.template hold {num_virtual} virtual tokens, and text and label "
                f"take {wanted} tokens more (data.max_length is {max_length}); the backbone's context is "
                f"{max_positions}. Use fewer virtual tokens or a smaller data.max_length."
            )
        return max_positions - num_virtual if max_length is None else max_length

    def _check_template_fits(self) -> None:
        excess = self._excess(self._ids(dict.fromkeys(self.template.columns, "")))
        if excess > 0:
            raise DataError(
                f"data.task.template is {self._limit + excess} tokens before any text; beside the longest "
                f"label {self._limit} fit. Raise data.max_length or shorten the template."
            )

    def _fingerprint(self, rows: Columns) -> str:
        how = [
            repr(self.template),
            _tokenizer_digest(self.tokenizer),
            self.front + self._back,
            self._limit,
            rows.digest,
        ]
        return hashlib.sha256(json.dumps(how).encode()).hexdigest()[:32]


@lru_cache(maxsize=4)
def _tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Written out once, which takes longer than encoding a few dozen rows."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _spans(segments: Sequence[TemplateSegment]) -> list[int | _Passage]:
    """Slots, as their number of virtual tokens, and the passages between them."""
    spans: list[int | _Passage] = []
    starts_row = True
    for is_soft, group in groupby(segments, key=lambda part: isinstance(part, Soft)):
        parts = tuple(group)
        if is_soft:
            spans += [part.num_tokens for part in parts if isinstance(part, Soft)]
        else:
            words = tuple(part for part in parts if not isinstance(part, Soft))
            spans.append(_Passage(parts=words, starts_row=starts_row))
            starts_row = False
    return spans


def _piece(part: Words | Column, fields: Fields) -> Piece:
    if isinstance(part, Words):
        return Piece(text=part.text, is_template=True)
    return Piece(text=fields[part.name], is_template=False)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """The special tokens that this tokenizer itself puts in front of a text and behind it."""
    encoding = tokenizer("a", return_special_tokens_mask=True)
    ids: list[int] = encoding["input_ids"]
    mask: list[int] = encoding["special_tokens_mask"]
    return ids[: mask.index(0)], ids[len(mask) - mask[::-1].index(0) :]


def _longest_cap(lengths: Sequence[int], *, budget: int) -> int:
    """The largest number of tokens per column with which the columns keep at most `budget` together."""
    caps = range(max(lengths) + 1)
    return max(bisect_right(caps, budget, key=lambda cap: sum(min(cap, length) for length in lengths)) - 1, 0)


def _beginning(text: str, starts: Sequence[int], *, num_tokens: int) -> str:
    if num_tokens == 0:
        return ""
    return text if num_tokens >= len(starts) else text[: starts[num_tokens]].rstrip()
