"""Next-sentence prediction on texts without labels: what prompts are pre-trained on.

Pre-trained prompt tuning (PPT, Gu et al. 2022, arXiv 2109.04332, section 3.3): of two sentences, the second
follows the first ("next"), is another one of the same text ("same"), or one of another text ("other").
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softcue.data.pool import Example, Pool, expect_column, make_pool
from softcue.data.rows import text_of
from softcue.data.tables import read_table
from softcue.data.task import Task
from softcue.data.tweets import airline_of, read_tweets, tweets_file, without_repeats
from softcue.errors import ConfigError, DataError

CLASSES = ("next", "same", "other")
COLUMNS = {"first", "second"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Sentences = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NextSentence:
    """Pairs of sentences, drawn with a seed, a third of each class.

    The texts are a column of a table, or, if `path` is None, the embedded tweets that name no airline. Those
    of one sentence are not used.
    """

    path: str | None
    column: str
    encoding: str
    separator: str | None
    num_rows: int
    seed: int

    def load(self, task: Task) -> Pool:
        """Use columns "first" and "second", and the classes "next", "same" and "other"."""
        if set(task.classes) != set(CLASSES) or not set(task.columns) <= COLUMNS:
            raise ConfigError(
                f"data.task has classes {list(task.classes)} and columns {list(task.columns)}; next "
                f"sentences have classes {list(CLASSES)} and columns {sorted(COLUMNS)}. Keep those of "
                "data=next_sentence."
            )
        texts = [parts for text in self._texts() if len(parts := sentences(text)) > 1]
        if len(texts) < 2:
            raise DataError(
                f"{self._where} has {len(texts)} texts of two sentences or more, and pairs need two texts; "
                "give longer texts."
            )
        rows = [self._example(number, task, pair) for number, pair in enumerate(self._pairs(texts))]
        return make_pool(task, labelled=rows, held_out=None, unlabelled=[], where=self._where)

    def files(self) -> tuple[Path, ...]:
        """The table, or the corpus of tweets."""
        return (tweets_file() if self.path is None else Path(self.path),)

    @property
    def _where(self) -> str:
        return "the embedded tweets" if self.path is None else Path(self.path).name

    def _texts(self) -> list[str]:
        if self.path is None:
            tweets = without_repeats(tweet for tweet in read_tweets(0.0) if airline_of(tweet) is None)
            return [tweet.text for tweet in tweets]
        table = read_table(Path(self.path), encoding=self.encoding, separator=self.separator)
        expect_column(table, self.column, key="source.column")
        return [text_of(row.values.get(self.column)) for row in table.rows]

    def _pairs(self, texts: Sequence[Sentences]) -> list[tuple[str, str, str]]:
        """First and second sentence, and their class."""
        draw = random.Random(self.seed)
        return [pair_of(texts, CLASSES[number % 3], draw) for number in range(self.num_rows)]

    def _example(self, number: int, task: Task, pair: tuple[str, str, str]) -> Example:
        cells = {"first": pair[0], "second": pair[1]}
        return Example(
            where=f"{self._where} pair {number + 1}",
            id=str(number),
            texts=tuple(cells[name] for name in task.columns),
            label=pair[2],
        )


def sentences(text: str) -> Sentences:
    """A text's sentences: they end in a full stop, an exclamation mark or a question mark before a space."""
    return tuple(part for part in _SENTENCE_END.split(text.strip()) if part)


def pair_of(texts: Sequence[Sentences], kind: str, draw: random.Random) -> tuple[str, str, str]:
    """A pair of a class: its sentences and the class."""
    one = draw.randrange(len(texts))
    text, size = texts[one], len(texts[one])
    if kind == "next":
        first = draw.randrange(size - 1)
        return text[first], text[first + 1], kind
    if kind == "same":
        # The first of two sentences has no other than its next.
        first = draw.randrange(size) if size > 2 else 1
        second = draw.choice([at for at in range(size) if at not in (first, first + 1)])
        return text[first], text[second], kind
    other = texts[(one + draw.randrange(1, len(texts))) % len(texts)]
    return draw.choice(text), draw.choice(other), kind
