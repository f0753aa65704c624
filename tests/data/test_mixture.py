"""Several tasks in one run: their rows share batches, each uses the prompt of its task."""

from __future__ import annotations

from collections import Counter

import pytest
from transformers import PreTrainedTokenizerFast

from softcue.build.data import build_data
from softcue.contracts import Batch
from softcue.data.mixture import MixedData
from softcue.errors import ConfigError
from tests.composing import train_config


def topics(*overrides: str) -> MixedData:
    settings = train_config(
        "data=tweet_topics",
        "split=few_shot",
        "split.balance=equal",
        "split.num_train=9",
        "split.num_test=6",
        "split.num_validation=4",
        "paths.cache=null",
        *overrides,
    )
    data = build_data(settings)
    assert isinstance(data, MixedData)
    return data


def test_rows_of_a_batch_use_their_tasks_prompts_and_classes(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    data = topics()
    data.encode(tokenizer, max_positions=512, padded=False)
    batches: list[Batch] = list(data.train_dataloader())
    assert Counter(prompt for batch in batches for prompt in batch.prompt_B.tolist()) == dict.fromkeys(
        range(4), 9
    )
    assert any(len(set(batch.prompt_B.tolist())) > 1 for batch in batches)
    examples = data.examples("train")
    for batch in batches:
        for row, prompt, choices in zip(
            batch.row_B.tolist(), batch.prompt_B.tolist(), batch.choices, strict=True
        ):
            assert examples[row].prompt == prompt
            assert examples[row].choices == choices
            assert len(data.kinds("train", row)) == len(examples[row].ids)
    assert len(data.val_dataloaders()) == 4
    assert len(data.ids("test")) == 24
    assert data.ids("test")[0].startswith("apple/")


def test_a_topic_has_none_of_the_targets_tweets() -> None:
    data = topics()
    data.load()
    airline = build_data(train_config("data=airline_complaints", "split=few_shot"))
    airline.load()
    target = set(airline.ids("train")) | set(airline.ids("test"))
    assert not target & {name.split("/")[1] for part in ("train", "test") for name in data.ids(part)}


def test_order_and_workers_are_those_of_the_settings(tokenizer: PreTrainedTokenizerFast) -> None:
    spreads = {}
    for order in ("shuffled", "length_grouped"):
        data = topics(f"data.order={order}", "data.num_workers=2", "data.batch_size=3")
        data.encode(tokenizer, max_positions=512, padded=False)
        loader = data.train_dataloader()
        assert loader.num_workers == 2
        batches: list[Batch] = list(loader)
        assert sorted(row for batch in batches for row in batch.row_B.tolist()) == list(range(36))
        lengths = [[len(row) for row in batch.rows] for batch in batches]
        spreads[order] = sum(max(of_batch) - min(of_batch) for of_batch in lengths)
    assert spreads["length_grouped"] < spreads["shuffled"] / 2
    with pytest.raises(ConfigError, match=r"data\.order=sorted; choose shuffled or length_grouped"):
        topics("data.order=sorted")


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_batches_are_padded_as_data_padding_names(tokenizer: PreTrainedTokenizerFast, padding: str) -> None:
    data = topics(f"data.padding={padding}", "data.batch_size=3")
    data.encode(tokenizer, max_positions=512, padded=True)
    batches: list[Batch] = list(data.train_dataloader())
    widths = {batch.padded.width for batch in batches if batch.padded is not None}
    longest = {max(map(len, batch.rows)) for batch in batches}
    assert (widths == longest) == (padding == "longest")
    assert len(widths) == 1 or padding == "longest"


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ConfigError, match="temperature is 0"):
        topics("data.temperature=0")
    with pytest.raises(ConfigError, match="same number"):
        topics("data.tasks.apple.task.template='[soft:2]{Tweet text} :'")
