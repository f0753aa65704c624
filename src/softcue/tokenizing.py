"""Pieces of a row to token ids: typed text stays text, and a later piece continues the row."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a row: the template's words, in which special tokens count as such, or a user's text."""

    text: str
    is_template: bool


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids, and the span of each token in the characters of the joined text."""

    ids: list[int]
    spans: list[tuple[int, int]]


class RowTokenizer:
    """Tokenizes the pieces of a row.

    Text that starts a row gets the prefix that some tokenizers put before every text (Llama 2's
    "▁"); text that continues one, after virtual tokens, gets none. The name of a special token inside a
    user's text is tokenized as its characters. Added tokens that the tokenizer does not call special,
    such as runs of spaces, are ordinary text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._start: Tokenizer = tokenizer.backend_tokenizer
        self._continuing = _without_prefix(self._start, keep_repeated=False)
        special = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
        special.sort(key=lambda token: len(token.content), reverse=True)
        self._special = re.compile("|".join(re.escape(token.content) for token in special) or "(?!)")

    def encode(self, pieces: Sequence[Piece], *, starts_row: bool) -> Tokens:
        """Tokens of consecutive pieces as one text: a token may span two pieces."""
        text = "".join(piece.text for piece in pieces)
        first = self._start if starts_row else self._continuing
        special = self._in_template(pieces)
        if special == [match.span() for match in self._special.finditer(text)]:
            return _encode(first, text, special_as_text=False)
        # A user's text holds a special token's name: only those of the template are special tokens.
        later = self._after_special if starts_row else self._continuing
        found = Tokens(ids=[], spans=[])
        done = 0
        for start, end in [*special, (len(text), len(text))]:
            tokenizer = first if done == 0 else later
            for begin, stop, as_text in ((done, start, True), (start, end, False)):
                tokens = _encode(tokenizer, text[begin:stop], special_as_text=as_text)
                found.ids.extend(tokens.ids)
                found.spans.extend((begin + left, begin + right) for left, right in tokens.spans)
            done = end
        return found

    def text(self, text: str) -> Tokens:
        """Tokens of a user's text: with a leading space it continues a row, otherwise it starts one."""
        return self.encode([Piece(text=text, is_template=False)], starts_row=not text.startswith(" "))

    @cached_property
    def _after_special(self) -> Tokenizer:
        return _without_prefix(self._start, keep_repeated=True)

    def _in_template(self, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
        """Spans of the template's special tokens in the joined text."""
        found, first = [], 0
        for piece in pieces:
            matches = self._special.finditer(piece.text) if piece.is_template else ()
            found += [(first + match.start(), first + match.end()) for match in matches]
            first += len(piece.text)
        return found


def _encode(tokenizer: Tokenizer, text: str, *, special_as_text: bool) -> Tokens:
    # Other users of the tokenizer change these; transformers too sets them before each of its calls.
    tokenizer.encode_special_tokens = special_as_text
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return Tokens(ids=encoding.ids, spans=encoding.offsets)


def _without_prefix(tokenizer: Tokenizer, *, keep_repeated: bool) -> Tokenizer:
    """The same tokenizer less the prefix that it adds; the tokenizer itself if it adds none.

    With `keep_repeated`, a prefix that it adds after every special token stays, and only one that it
    adds at the start of a text is dropped.
    """
    parts = {"normalizer": tokenizer.normalizer, "pre_tokenizer": tokenizer.pre_tokenizer}
    own = {name: None if part is None else json.loads(part.__getstate__()) for name, part in parts.items()}
    changed = {name: _drop_prefix(part, keep_repeated=keep_repeated) for name, part in own.items()}
    if changed == own:
        return tokenizer
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer.to_str()) | changed))


def _drop_prefix(part: dict[str, Any] | None, *, keep_repeated: bool) -> dict[str, Any] | None:
    if part is None or (part["type"] == "Prepend" and not keep_repeated):
        return None
    changed = dict(part)
    for steps in ("normalizers", "pretokenizers"):
        if steps in part:
            inner = [_drop_prefix(step, keep_repeated=keep_repeated) for step in part[steps]]
            changed[steps] = [step for step in inner if step is not None]
    if "add_prefix_space" in part and not keep_repeated:
        changed["add_prefix_space"] = False
    if part.get("prepend_scheme") == "first" or ("prepend_scheme" in part and not keep_repeated):
        changed["prepend_scheme"] = "never"
    return changed
