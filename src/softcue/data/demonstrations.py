"""Labelled rows as methods that read them get them: the row's own tokens, then its label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softcue.data.encode import Encoder, Fields

if TYPE_CHECKING:
    from softcue.contracts import Demonstration, Ids


def demonstration(encoder: Encoder, fields: Fields, label: Ids) -> Demonstration:
    """A row without its virtual tokens and those that start every text, and its label's tokens."""
    from softcue.contracts import Demonstration

    kinds = zip(encoder.encode_row(fields).ids, encoder.kinds(fields), strict=True)
    own = [(token, kind == "text") for token, kind in kinds if kind in ("text", "template")]
    ids, is_text = zip(*own, strict=True)
    return Demonstration(ids=ids, is_text=is_text, label=label)
