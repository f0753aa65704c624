"""One task's rows: split, encoded, counted and batched."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal, cast

import pytest
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from softcue.contracts import Batch
from softcue.data.collate import Collator, Example
from softcue.data.columns import Columns
from softcue.data.pool import Pool
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Batching, Order
from softcue.data.splits import AllLabelled, FewShot, Splitter
from softcue.data.task import Task
from softcue.errors import ConfigError

_SPLIT = FewShot(num_train=30, num_validation=10, num_test=40, balance="natural", seed=0, test_seed=0)


@dataclass(frozen=True, kw_only=True)
class _Given:
    pool: Pool

    def load(self, task: Task) -> Pool:
        assert task.classes
        return self.pool


def _data(
    pool: Pool,
    task: Task,
    *,
    max_length: int | None = 64,
    padding: Literal["longest", "max_length"] = "longest",
    order: Order = "shuffled",
    split: Splitter = _SPLIT,
) -> PromptData:
    return PromptData(
        source=_Given(pool=pool),
        task=task,
        layout="[soft:5]{input}",
        splitter=split,
        batching=Batching(
            batch_size=8, eval_batch_size=16, padding=padding, order=order, seed=0, num_workers=0
        ),
        max_length=max_length,
        cache_dir=None,
    )


def _with_unlabelled(tweets: Pool) -> Pool:
    few = tweets.labelled.select(range(5))
    unlabelled = Columns(by_name={name: few[name] for name in ("id", "Tweet text")})
    labelled = tweets.labelled.select(range(5, 500))
    return Pool(labelled=labelled, held_out=None, unlabelled=unlabelled, fingerprint="0")


def _batches(loader: object) -> list[Batch]:
    assert isinstance(loader, DataLoader)
    return list(loader)


def test_rows_are_padded_on_the_left() -> None:
    choices = ((1,), (2, 3))
    rows = [
        Example(ids=[-1, 7], choices=choices, target=1, prompt=0, row=4),
        Example(ids=[-1, 8, 9], choices=choices, target=-1, prompt=2, row=5),
    ]
    batch = Collator(width="longest")(rows)
    assert batch.rows == ((-1, 7), (-1, 8, 9))
    assert batch.padded is not None
    assert batch.padded.ids_BT.tolist() == [[0, -1, 7], [-1, 8, 9]]
    assert batch.padded.mask_BT.tolist() == [[False, True, True], [True, True, True]]
    assert batch.choices == (((1,), (2, 3)),) * 2
    assert (batch.target_B.tolist(), batch.prompt_B.tolist(), batch.row_B.tolist()) == (
        [1, -1],
        [0, 2],
        [4, 5],
    )


def test_a_fixed_width_pads_every_batch_alike(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = _data(tweets, task, padding="max_length")
    data.encode(tokenizer, 2048, padded=True)
    padded = [batch.padded for batch in _batches(data.train_dataloader())]
    assert {rows.width for rows in padded if rows is not None} == {64 + 5 - 2}


def test_batches_without_padding_are_not_padded(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = _data(tweets, task, padding="max_length")
    data.encode(tokenizer, 2048, padded=False)
    assert {batch.padded for batch in _batches(data.train_dataloader())} == {None}


def test_a_batch_of_cut_rows_keeps_every_label_cue(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["Late again and again. " * 500] * 8
    rows = Columns(by_name={"id": list("abcdefgh"), "Tweet text": texts, "label": list(task.classes) * 4})
    pool = Pool(labelled=rows, held_out=None, unlabelled=rows.select([]), fingerprint="0")
    data = _data(pool, task, split=AllLabelled(num_validation=0, seed=0))
    data.encode(tokenizer, 2048, padded=True)
    (batch,) = _batches(data.train_dataloader())
    assert data.num_cut["train"] == 8
    assert [list(row[-2:]) for row in batch.rows] == [tokenizer(" Label :")["input_ids"]] * 8
    assert [sum(token < 0 for token in row) for row in batch.rows] == [5] * 8


def test_cut_rows_are_reported_in_one_line(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(_with_unlabelled(tweets), task, max_length=12)
    with caplog.at_level(logging.INFO):
        data.encode(tokenizer, 2048, padded=True)
    assert f"{data.num_cut['test']} of 40 test rows were cut to 12 tokens" in caplog.messages


def test_unlabelled_rows_are_in_no_part_with_a_loss(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    pool = _with_unlabelled(tweets)
    data = _data(pool, task)
    data.encode(tokenizer, 2048, padded=True)
    assert not set(pool.unlabelled["id"]) & {*data.ids("train"), *data.ids("validation"), *data.ids("test")}
    assert data.ids("unlabelled") == list(pool.unlabelled["id"])
    for loader in (data.train_dataloader(), *data.val_dataloaders(), data.eval_dataloader("test")):
        assert all(batch.target_B.min() >= 0 for batch in _batches(loader))
    assert [batch.target_B.tolist() for batch in _batches(data.eval_dataloader("unlabelled"))] == [[-1] * 5]


def test_text_needs_no_tokenizer(tweets: Pool, task: Task) -> None:
    data = _data(tweets, task)
    data.load()
    assert data.texts("train") == list(data.parts.train["Tweet text"])
    assert [task.classes[target] for target in data.targets("train")] == list(data.parts.train["label"])
    assert data.fingerprint == tweets.fingerprint


def test_evaluation_batches_hold_numbered_rows_of_similar_length(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = _data(tweets, task)
    data.encode(tokenizer, 2048, padded=True)
    batches = _batches(data.eval_dataloader("test"))
    lengths = [len(row) for batch in batches for row in batch.rows]
    assert lengths == sorted(lengths)
    rows = torch.cat([batch.row_B for batch in batches])
    targets = torch.cat([batch.target_B for batch in batches])
    assert sorted(rows.tolist()) == list(range(40))
    assert targets[rows.argsort()].tolist() == data.targets("test")


def test_the_order_of_training_rows_is_a_setting(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = _data(tweets, task, order="length_grouped")
    data.encode(tokenizer, 2048, padded=True)
    rows = torch.cat([batch.row_B for batch in _batches(data.train_dataloader())])
    assert sorted(rows.tolist()) == list(range(len(data.examples("train"))))
    with pytest.raises(ConfigError, match=r"data\.order=sorted; choose shuffled or length_grouped"):
        _data(tweets, task, order=cast(Order, "sorted"))


def test_there_is_no_validation_loader_without_validation_rows(
    tweets: Pool, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    small = Pool(
        labelled=tweets.labelled.select(range(50)),
        held_out=None,
        unlabelled=tweets.unlabelled,
        fingerprint="0",
    )
    data = _data(small, task, split=AllLabelled(num_validation=0, seed=0))
    data.encode(tokenizer, 2048, padded=True)
    assert data.val_dataloaders() == []


def test_padding_to_an_unknown_length_is_refused(tweets: Pool, task: Task) -> None:
    with pytest.raises(ConfigError, match=r"data\.padding is max_length and data\.max_length is null"):
        _data(tweets, task, max_length=None, padding="max_length")
