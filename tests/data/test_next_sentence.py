"""Pairs of sentences drawn from texts without labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from softcue.data.next_sentence import NextSentence, sentences
from softcue.data.task import Task
from softcue.errors import ConfigError, DataError

TEXTS = ["a1. a2! a3?", "b1. b2.", "only one", "c1. c2. c3. c4."]


def task(**changes: Any) -> Task:
    given: dict[str, Any] = {
        "name": "next_sentence",
        "template": "{first} Next : {second} Label :",
        "classes": ("next", "same", "other"),
        "verbalizer": {"next": "yes", "same": "maybe", "other": "no"},
        "end_token": False,
    }
    return Task(**{**given, **changes})


def source(folder: Path, texts: list[str] = TEXTS, **changes: Any) -> NextSentence:
    (folder / "texts.tsv").write_text("text\n" + "".join(f"{text}\n" for text in texts))
    given: dict[str, Any] = {
        "path": str(folder / "texts.tsv"),
        "column": "text",
        "encoding": "utf-8",
        "separator": None,
        "num_rows": 300,
        "seed": 0,
    }
    return NextSentence(**{**given, **changes})


def test_a_third_of_the_pairs_follow_share_a_text_and_come_from_two_texts(tmp_path: Path) -> None:
    rows = source(tmp_path).load(task()).labelled
    found = Counter(zip(rows["first"], rows["second"], rows["label"], strict=True))
    for first, second, label in found:
        same_text, follows = first[0] == second[0], int(second[1]) == int(first[1]) + 1
        expected = ("next" if follows else "same") if same_text else "other"
        assert label == expected, (first, second)
        assert first != second
    assert Counter(rows["label"]) == {"next": 100, "same": 100, "other": 100}
    # Every text of several sentences is used, and the one of a single sentence never.
    assert {first[0] for first, _, _ in found} == {"a", "b", "c"}


def test_the_seed_draws_the_pairs(tmp_path: Path) -> None:
    first, again, other = (source(tmp_path, seed=seed).load(task()) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_sentences_end_in_a_mark_before_a_space() -> None:
    assert sentences(" It is 3.5 m. Really?! Yes") == ("It is 3.5 m.", "Really?!", "Yes")


def test_the_embedded_tweets_are_texts_too() -> None:
    embedded = NextSentence(path=None, column="text", encoding="utf-8", separator=None, num_rows=30, seed=0)
    assert len(embedded.load(task()).labelled) == 30


def test_texts_columns_and_classes_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"texts\.tsv has 1 texts of two sentences or more"):
        source(tmp_path, ["a1. a2.", "one"]).load(task())
    with pytest.raises(DataError, match=r"data\.source\.column is 'body', which texts\.tsv does not have"):
        source(tmp_path, column="body").load(task())
    with pytest.raises(ConfigError, match=r"classes \['yes', 'no'\] .* Keep those of data=next_sentence"):
        source(tmp_path).load(task(classes=("yes", "no"), verbalizer={"yes": "yes", "no": "no"}))
