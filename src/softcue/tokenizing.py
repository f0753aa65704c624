"""Pieces of a row to token ids: what a person typed stays text, and a later piece continues the row."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Words of a row: a template's own, in which special tokens are what they say, or a person's text."""

    text: str
    is_template: bool


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids, and where each token's characters stand in the joined text."""

    ids: list[int]
    spans: list[tuple[int, int]]


class RowTokenizer:
    """Tokenizes the pieces of a row.

    Text that starts a row gets the prefix that some tokenizers put in front of every text (Llama 2's
    "▁"); text that continues one, behind virtual tokens, is just its characters. A special token's
    name inside a person's text is tokenized as the characters it is made of. Added tokens that a
    tokenizer does not call special, such as runs of spaces, are ordinary text and stay what they are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._start: Tokenizer = tokenizer.backend_tokenizer
        self._continuing = _without_prefix(self._start)
        names = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def encode(self, pieces: Sequence[Piece], *, starts_row: bool) -> Tokens:
        """Tokens of pieces that follow each other, as one text: tokens may span two pieces."""
        tokenizer = self._start if starts_row else self._continuing
        text = "".join(piece.text for piece in pieces)
        if not any(self._special.search(piece.text) for piece in pieces if not piece.is_template):
            return _encode(tokenizer, text, special_as_text=False)
        # A person has typed a special token's name: only the template's own are special then.
        found = Tokens(ids=[], spans=[])
        first = 0
        for start, end in [*self._in_template(pieces), (len(text), len(text))]:
            words = _encode(tokenizer, text[first:start], special_as_text=True)
            special = _encode(tokenizer, text[start:end], special_as_text=False)
            for tokens, offset in ((words, first), (special, start)):
                found.ids.extend(tokens.ids)
                found.spans.extend((at + offset, to + offset) for at, to in tokens.spans)
            tokenizer, first = self._continuing, end
        return found

    def text(self, text: str) -> Tokens:
        """Tokens of a person's text: it continues a row if it begins with a space, and else starts one."""
        return self.encode([Piece(text=text, is_template=False)], starts_row=not text.startswith(" "))

    def _in_template(self, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
        """Where the template's special tokens stand in the joined text."""
        found, first = [], 0
        for piece in pieces:
            matches = self._special.finditer(piece.text) if piece.is_template else ()
            found += [(first + match.start(), first + match.end()) for match in matches]
            first += len(piece.text)
        return found


def _encode(tokenizer: Tokenizer, text: str, *, special_as_text: bool) -> Tokens:
    # transformers sets these anew for each call of its own.
    tokenizer.encode_special_tokens = special_as_text
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return Tokens(ids=encoding.ids, spans=encoding.offsets)


def _without_prefix(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer less what it puts in front of a text; itself, if that is nothing."""
    parts = {"normalizer": tokenizer.normalizer, "pre_tokenizer": tokenizer.pre_tokenizer}
    own = {name: None if part is None else json.loads(part.__getstate__()) for name, part in parts.items()}
    changed = {name: _part_without_prefix(part) for name, part in own.items()}
    if changed == own:
        return tokenizer
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | changed))


def _part_without_prefix(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None or part["type"] == "Prepend":
        return None
    changed = dict(part)
    for steps in ("normalizers", "pretokenizers"):
        if steps in part:
            inner = [_part_without_prefix(step) for step in part[steps]]
            changed[steps] = [step for step in inner if step is not None]
    if "add_prefix_space" in part:
        changed["add_prefix_space"] = False
    if "prepend_scheme" in part:
        changed["prepend_scheme"] = "never"
    return changed
