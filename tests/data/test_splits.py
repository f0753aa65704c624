"""Splits: which rows train, validate and test."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import cast

import pytest

from softcue.data.columns import Columns
from softcue.data.pool import Pool
from softcue.data.splits import AllLabelled, Balance, FewShot, FewShotFolds, KFold, Splitter, stratified_order
from softcue.data.tweets import normalise_tweet
from softcue.errors import ConfigError, DataError

_CLASSES = ("complaint", "no complaint")
_FEW = FewShot(num_train=50, num_validation=20, num_test=200, balance="natural", seed=1, test_seed=0)


def _pool(labels: str, *, held_out: str = "") -> Pool:
    def rows(letters: str, prefix: str) -> Columns:
        ids = [f"{prefix}{at}" for at in range(len(letters))]
        return Columns(by_name={"id": ids, "text": ids, "label": list(letters)})

    return Pool(
        labelled=rows(labels, "l"),
        held_out=rows(held_out, "h") if held_out else None,
        unlabelled=Columns(by_name={"id": [], "text": []}),
        fingerprint="0",
    )


def _ids(part: Columns) -> list[str]:
    return list(part["id"])


@pytest.mark.parametrize("splitter", [_FEW, KFold(num_folds=5, fold=1, seed=0, num_validation=30)])
def test_no_text_of_one_part_is_in_another_even_normalised(tweets: Pool, splitter: Splitter) -> None:
    parts = splitter.split(tweets, _CLASSES)
    tables = (parts.train, parts.validation, parts.test)
    texts = [normalise_tweet(text) for table in tables for text in table["Tweet text"]]
    assert len(texts) == len(set(texts))


def test_the_same_seed_draws_the_same_rows(tweets: Pool) -> None:
    assert _ids(_FEW.split(tweets, _CLASSES).train) == _ids(replace(_FEW).split(tweets, _CLASSES).train)


def test_another_seed_draws_other_training_rows_and_the_same_test_rows(tweets: Pool) -> None:
    one, other = _FEW.split(tweets, _CLASSES), replace(_FEW, seed=2).split(tweets, _CLASSES)
    assert set(_ids(one.train)) != set(_ids(other.train))
    assert _ids(one.test) == _ids(other.test)


@pytest.mark.parametrize("balance", ["natural", "equal"])
def test_fewer_rows_are_the_first_of_more(tweets: Pool, balance: Balance) -> None:
    more = replace(_FEW, balance=balance).split(tweets, _CLASSES)
    fewer = replace(_FEW, balance=balance, num_train=16).split(tweets, _CLASSES)
    assert _ids(fewer.train) == _ids(more.train)[:16]
    assert _ids(fewer.validation) == _ids(more.validation)


def test_equal_balance_draws_as_many_of_each_class(tweets: Pool) -> None:
    parts = replace(_FEW, balance="equal").split(tweets, _CLASSES)
    assert Counter(parts.train["label"]) == {"complaint": 25, "no complaint": 25}


def test_natural_balance_keeps_the_shares_of_all_rows() -> None:
    labels = "a" * 60 + "b" * 30 + "c" * 10
    order = stratified_order(labels, num_rows=100, seed=3, balance="natural")
    assert sorted(order) == list(range(100))
    assert Counter("a" if at < 60 else "b" if at < 90 else "c" for at in order[:20]) == {
        "a": 12,
        "b": 6,
        "c": 2,
    }


def test_held_out_rows_are_the_test_rows() -> None:
    pool = _pool("ab" * 20, held_out="aab")
    for splitter in (replace(_FEW, num_train=10, num_test=None), AllLabelled(num_validation=4, seed=0)):
        assert _ids(splitter.split(pool, "ab").test) == ["h0", "h1", "h2"]
    assert len(replace(_FEW, num_train=10, num_test=2).split(pool, "ab").test) == 2


def test_folds_refuse_held_out_rows_that_they_would_not_use() -> None:
    pool = _pool("ab" * 20, held_out="aab")
    with pytest.raises(
        DataError, match=r"split=k_fold tests on its own folds, .* data\.source\.test_path .* would not"
    ):
        KFold(num_folds=5, fold=0, seed=0, num_validation=0).split(pool, "ab")


def test_without_a_number_of_test_rows_all_remaining_rows_test() -> None:
    parts = replace(_FEW, num_train=10, num_validation=4, num_test=None).split(_pool("ab" * 20), "ab")
    assert len(parts.test) == 26


def test_all_labelled_rows_train_except_those_that_validate() -> None:
    parts = AllLabelled(num_validation=4, seed=0).split(_pool("ab" * 20), "ab")
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (36, 4, 0)


def test_folds_test_every_row_once() -> None:
    pool = _pool("aab" * 10)
    folds = [KFold(num_folds=5, fold=fold, seed=0, num_validation=3).split(pool, "ab") for fold in range(5)]
    assert sorted(row for parts in folds for row in _ids(parts.test)) == sorted(_ids(pool.labelled))
    assert {len(parts.train) for parts in folds} == {21}


def test_an_impossible_split_is_refused_with_the_reason() -> None:
    pool = _pool("a" * 9 + "b")
    with pytest.raises(DataError, match=r"split\.num_train is 50; 4 labelled rows are left"):
        replace(_FEW, num_test=3, num_validation=3).split(pool, "ab")
    with pytest.raises(DataError, match=r"class 'b' is absent from the 2 training rows"):
        replace(_FEW, num_test=0, num_validation=0, num_train=2).split(pool, "ab")
    with pytest.raises(DataError, match=r"split\.num_train is 4 with equal classes; 3 can be drawn"):
        replace(_FEW, num_test=0, num_validation=0, num_train=4, balance="equal").split(pool, "ab")
    with pytest.raises(DataError, match=r"split\.num_folds is 2; class 'b' has 1 rows"):
        KFold(num_folds=2, fold=0, seed=0, num_validation=0).split(pool, "ab")
    with pytest.raises(DataError, match=r"split\.fold is 2; choose one from 0 to 1"):
        KFold(num_folds=2, fold=2, seed=0, num_validation=0).split(pool, "ab")
    with pytest.raises(DataError, match=r"split\.num_folds is 1; choose 2 folds or more"):
        KFold(num_folds=1, fold=0, seed=0, num_validation=0).split(pool, "ab")
    with pytest.raises(DataError, match=r"split\.num_train is -5; set it to 0 or more"):
        replace(_FEW, num_test=0, num_validation=0, num_train=-5).split(pool, "ab")
    with pytest.raises(ConfigError, match=r"split\.balance is 'even'; choose natural or equal"):
        replace(_FEW, num_test=0, num_validation=0, num_train=4, balance=cast(Balance, "even")).split(
            pool, "ab"
        )


def test_a_class_without_labelled_rows_may_be_absent() -> None:
    parts = AllLabelled(num_validation=0, seed=0).split(_pool("abab"), "abc")
    assert len(parts.train) == 4


def test_folds_of_a_few_rows_are_the_rows_that_few_shot_trains_on(tweets: Pool) -> None:
    drawn = _FEW.split(tweets, _CLASSES)
    few = replace(_FEW, num_validation=0).split(tweets, _CLASSES)
    folds = [
        FewShotFolds(
            num_train=50, num_test=200, balance="natural", seed=1, test_seed=0, num_folds=3, fold=fold
        ).split(tweets, _CLASSES)
        for fold in range(3)
    ]
    held_out = [row for fold in folds for row in _ids(fold.validation)]
    assert sorted(held_out) == sorted(_ids(few.train))
    for fold in folds:
        assert sorted(_ids(fold.train) + _ids(fold.validation)) == sorted(_ids(few.train))
        assert len(fold.test) == 0
    assert not set(held_out) & set(_ids(drawn.test))
