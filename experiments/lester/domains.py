"""One domain to train on and five to test on: tweets to airlines, and the four other topics of the corpus.

The verdict is the same everywhere: a negative tweet is a "complaint", any other is "no complaint".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from softcue.data.pool import Pool, make_pool, pick_examples
from softcue.data.rows import TableRow
from softcue.data.sources import TOPICS
from softcue.data.splits import draw
from softcue.data.tables import LoadedTable
from softcue.data.task import Task
from softcue.data.tweets import Tweet, airline_of, read_tweets, tweets_file, without_repeats

NUM_AIRLINES, NUM_TOPIC = 400, 200
"""Test rows of the training domain, and of each other one."""


@dataclass(frozen=True, kw_only=True)
class Domains:
    """Airline tweets to train on; test rows of every domain are held out, and their ids name it."""

    min_confidence: float

    def load(self, task: Task) -> Pool:
        """Use the tweets whose raters agreed by at least `min_confidence`, in column "Tweet text"."""
        tweets = [
            replace(tweet, sentiment="complaint" if tweet.sentiment == "negative" else "no complaint")
            for tweet in read_tweets(self.min_confidence)
        ]
        airlines = [tweet for tweet in without_repeats(tweets) if airline_of(tweet) is not None]
        held_out, free = _drawn(airlines, NUM_AIRLINES)
        rows = _rows("airlines", held_out)
        for topic, words in TOPICS.items():
            found = [tweet for tweet in tweets if words.search(tweet.text) and airline_of(tweet) is None]
            rows += _rows(topic, _drawn(without_repeats(found), NUM_TOPIC)[0])
        test = pick_examples(_table(rows), task, id_column="id", label_column="label")
        train = pick_examples(_table(_rows("airlines", free)), task, id_column="id", label_column="label")
        return make_pool(task, labelled=train, held_out=test, unlabelled=[], where="domains")

    def files(self) -> tuple[Path, ...]:
        return (tweets_file(),)


def _drawn(tweets: list[Tweet], count: int) -> tuple[list[Tweet], list[Tweet]]:
    """A stratified draw, and the others."""
    labels = [tweet.sentiment for tweet in tweets]
    drawn, rest = draw(labels, range(len(tweets)), num_rows=count, seed=0, part="test")
    return [tweets[at] for at in drawn], [tweets[at] for at in rest]


def _rows(domain: str, tweets: list[Tweet]) -> list[TableRow]:
    return [
        TableRow(
            f"{domain} line {tweet.line}",
            {"id": f"{domain}:{tweet.line}", "Tweet text": tweet.text, "label": tweet.sentiment},
        )
        for tweet in tweets
    ]


def _table(rows: list[TableRow]) -> LoadedTable:
    return LoadedTable(name="domains", columns=tuple(rows[0].values), rows=tuple(rows))
