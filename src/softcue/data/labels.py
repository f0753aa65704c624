"""Label words, and texts, to the tokens that follow the template in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from softcue.data.task import Task
from softcue.errors import ConfigError
from softcue.tokenizing import Piece, RowTokenizer

if TYPE_CHECKING:
    from softcue.contracts import Choices, Ids


@dataclass(frozen=True, kw_only=True)
class TargetPlace:
    """What labels and texts come behind: the template's last words, or nothing if they are apart."""

    before: str = ""
    space: str = ""
    """Between those words and the label."""
    is_apart: bool = False
    """Whether they are an input of their own, so that they start a row."""
    front: Ids = ()
    """The special tokens that such an input begins with."""


def label_choices(task: Task, rows: RowTokenizer, *, place: TargetPlace, end_token: int | None) -> Choices:
    """The tokens of each class's label, with the tokenizer's end token if the task asks for it.

    Raises:
        ConfigError: two classes have the same tokens, a label shares one with the template, or there
            is no end token.
    """
    end = _end_tokens(task, end_token)
    choices = tuple((*place.front, *_label_tokens(words, place, rows), *end) for words in task.label_words)
    for name, tokens in zip(task.classes, choices, strict=True):
        if choices.count(tokens) > 1:
            raise ConfigError(
                f"data.task.verbalizer gives class {name!r} the tokens {tokens}, and another class too. "
                "Choose label words that this backbone's tokenizer keeps distinct."
            )
    return choices


@dataclass(frozen=True, kw_only=True)
class EncodedTarget:
    """The tokens of a text with the end token, and whether the text was cut."""

    ids: Ids
    was_cut: bool


class TargetEncoder:
    """Encodes the texts that follow rows: at most `max_length` tokens, of which the last is the end token.

    Raises:
        ConfigError: no `max_length`, one that leaves no room for a text, or no end token.
    """

    def __init__(
        self,
        rows: RowTokenizer,
        *,
        place: TargetPlace,
        max_length: int | None,
        end_token: int | None,
    ) -> None:
        if max_length is None or max_length < 2:
            raise ConfigError(
                f"data.max_target_length is {max_length}, and data.task.target is a text; give the tokens of "
                "the longest text with its end token, 2 or more."
            )
        if end_token is None:
            raise ConfigError(
                "data.task.target is a text, which has to end with an end token, and this backbone's "
                "tokenizer has none. Choose another backbone."
            )
        self._rows, self._place = rows, place
        self.max_length, self.end_token = max_length, end_token

    def encode(self, text: str) -> EncodedTarget:
        """The tokens of a text behind the template's last words."""
        ids = [*self._place.front, *_tokens_behind(text, self._place, self._rows)]
        return EncodedTarget(
            ids=(*ids[: self.max_length - 1], self.end_token), was_cut=len(ids) >= self.max_length
        )


def never_chosen(task: Task, choices: Choices) -> list[tuple[str, str]]:
    """Pairs of classes where the second class's label begins with the first's and so never wins.

    By summed likelihood, log P(a) >= log P(a) + log P(b | a), whatever the model.
    """
    named = list(zip(task.classes, choices, strict=True))
    return [
        (first, second)
        for first, beginning in named
        for second, label in named
        if first != second and label[: len(beginning)] == beginning
    ]


def _tokens_behind(text: str, place: TargetPlace, rows: RowTokenizer) -> list[int]:
    """The tokens that a user's text adds to the template's last words, or its own where they would merge."""
    words = Piece(text=place.before, is_template=True)
    behind = Piece(text=f"{place.space}{text}", is_template=False)
    ahead, both, alone = (
        rows.encode(pieces, starts_row=place.is_apart).ids for pieces in ([words], [words, behind], [behind])
    )
    return both[len(ahead) :] if both[: len(ahead)] == ahead else alone


def _label_tokens(words: str, place: TargetPlace, rows: RowTokenizer) -> Ids:
    """The tokens that a label adds to the template's last words."""
    before, space = place.before, place.space
    ahead, both = (
        rows.encode([Piece(text=text, is_template=True)], starts_row=place.is_apart).ids
        for text in (before, f"{before}{space}{words}")
    )
    if both[: len(ahead)] != ahead or len(both) == len(ahead):
        raise ConfigError(
            f"data.task.verbalizer's {words!r} has no tokens of its own after {before!r} with this "
            "backbone's tokenizer. End data.task.template in another character, or choose other label words."
        )
    return tuple(both[len(ahead) :])


def _end_tokens(task: Task, end_token: int | None) -> Ids:
    if not task.end_token:
        return ()
    if end_token is None:
        raise ConfigError(
            "data.task.end_token is true, but this backbone's tokenizer has no end token. Set it to false."
        )
    return (end_token,)
