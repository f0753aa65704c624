"""Rows and labels of encoder-decoders: each is an input of its own, with the tokenizer's own end tokens."""

from __future__ import annotations

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from softcue.data.encode import Encoder
from softcue.data.task import Task
from softcue.data.template import compose
from softcue.tokenizing import RowTokenizer
from tests.tiny import tiny_tokenizer

END = 9
TASK = Task(
    name="tweets",
    template="w10 {text}",
    classes=("good", "bad"),
    verbalizer={"good": "w20 w21", "bad": "w22"},
    end_token=True,
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Rows end as T5's do."""
    own = tiny_tokenizer()
    own.backend_tokenizer.post_processor = TemplateProcessing(single="$A w9", special_tokens=[("w9", END)])
    own.add_special_tokens({"eos_token": "w9"})
    return own


def encoder(tokenizer: PreTrainedTokenizerFast, layout: str, max_length: int | None = None) -> Encoder:
    return Encoder(
        template=compose(layout, TASK.template),
        task=TASK,
        tokenizer=tokenizer,
        max_length=max_length,
        max_positions=64,
        targets_apart=True,
    )


def test_a_row_ends_as_the_tokenizer_ends_it_and_labels_start_a_text(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    made = encoder(tokenizer, "[soft:2]{input}")
    assert made.encode_row({"text": "w30 w31"}).ids == [-1, -2, 10, 30, 31, END]
    assert made.kinds({"text": "w30 w31"}) == [*["virtual"] * 2, "template", *["text"] * 2, "special"]
    assert made.choices == ((20, 21, END), (22, END))
    assert RowTokenizer(tokenizer).text("w20").ids == [20]


def test_virtual_tokens_behind_the_text_stand_before_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    made = encoder(tokenizer, "{input}[soft:2]")
    assert made.encode_row({"text": "w30"}).ids == [10, 30, -1, -2, END]


@pytest.mark.parametrize(("max_length", "kept"), [(3, 1), (4, 2), (6, 4)])
def test_a_long_text_is_cut_and_labels_take_none_of_its_room(
    max_length: int, kept: int, tokenizer: PreTrainedTokenizerFast
) -> None:
    made = encoder(tokenizer, "[soft:2]{input}", max_length=max_length)
    row = made.encode_row({"text": "w30 w31 w32 w33"})
    assert row.ids == [-1, -2, 10, *range(30, 30 + kept), END]
    assert row.was_cut == (kept < 4)
