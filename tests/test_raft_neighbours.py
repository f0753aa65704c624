"""The labelled tweets in front of each tweet: whose they are, and what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.raft.neighbours import Neighbours
from softcue.data.splits import KFold
from softcue.data.task import Task

TASK = Task(
    name="tweets",
    template="{neighbours}Tweet : {Tweet text} Label :",
    classes=("complaint", "no complaint"),
    verbalizer={"complaint": "bad", "no complaint": "good"},
    end_token=False,
)
TWEETS = [f"{word} {noun}" for noun in ("bus", "train") for word in ("late", "slow", "nice", "fast", "lost")]


@pytest.fixture
def raft(tmp_path: Path) -> Path:
    folder = tmp_path / "twitter_complaints"
    folder.mkdir()
    rows = [
        f"{text},{at},{'complaint' if 'bus' in text else 'no complaint'}" for at, text in enumerate(TWEETS)
    ]
    (folder / "train.csv").write_text("\n".join(["Tweet text,ID,Label", *rows, ""]))
    (folder / "test_unlabeled.csv").write_text("Tweet text,ID\nslow train again,50\n")
    return tmp_path


def test_neighbours_are_training_rows_and_never_the_row_itself(raft: Path) -> None:
    split = KFold(num_folds=5, fold=0, seed=0, num_validation=0)
    source = Neighbours(
        subset="twitter_complaints", folder=str(raft), split=split, num_neighbours=len(TWEETS)
    )
    pool = source.load(TASK)
    parts = split.split(pool, TASK.classes)
    assert len(parts.test) == 2
    for held_out in parts.test["Tweet text"]:
        assert not [row for row in pool.labelled["neighbours"] if f": {held_out} " in row]
    for row in parts.train.rows():
        assert f": {row['Tweet text']} " not in row["neighbours"]
        assert row["neighbours"].count("Tweet :") == len(parts.train) - 1
    for row in parts.test.rows():
        assert row["neighbours"].count("Tweet :") == len(parts.train)


def test_the_most_similar_row_comes_last_with_its_label_words(raft: Path) -> None:
    split = KFold(num_folds=5, fold=0, seed=1, num_validation=0)
    pool = Neighbours(subset="twitter_complaints", folder=str(raft), split=split, num_neighbours=2).load(TASK)
    is_there = "slow train" in split.split(pool, TASK.classes).train["Tweet text"]
    (front,) = pool.unlabelled["neighbours"]
    assert is_there, "draw another fold"
    assert front.endswith("Tweet : slow train Label : good\n\n")
    assert front.count("Label :") == 2
