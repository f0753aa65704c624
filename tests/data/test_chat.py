"""Rows in the user's turn of a chat are the text that the model's own chat template writes."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedTokenizerFast

from softcue.data.chat import Turn
from softcue.data.encode import Encoder
from softcue.data.task import Task, TextTarget, TextTask
from softcue.data.template import compose
from softcue.errors import ConfigError

SUMMARIES = TextTask(name="s", template="Tweet : {tweet}", target=TextTarget(column="summary"))
FIELDS = {"tweet": "the plane is late <|im_end|>"}


def encoder_of(
    tokenizer: PreTrainedTokenizerFast, task: Task, layout: str, *, prefix_first: bool = False
) -> Encoder:
    return Encoder(
        template=compose(layout, task.template),
        task=task,
        tokenizer=tokenizer,
        max_length=120,
        max_positions=2048,
        max_target_length=20,
        turn=Turn.of(tokenizer, prefix_first=prefix_first),
    )


def conversation(tokenizer: PreTrainedTokenizerFast, *turns: str) -> list[int]:
    """The tokens of turns by user and assistant, as the chat template writes them."""
    roles = [
        {"role": role, "content": text} for role, text in zip(("user", "assistant"), turns, strict=False)
    ]
    text = tokenizer.apply_chat_template(roles, tokenize=False, add_generation_prompt=len(turns) == 1)
    return list(tokenizer(text)["input_ids"])


def test_a_row_and_its_text_are_the_conversation(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer, SUMMARIES, "{input}")
    assert encoder.target is not None
    whole = [
        *encoder.encode_row({"tweet": "the plane is late"}).ids,
        *encoder.target.encode("A late plane").ids,
    ]
    expected = conversation(tokenizer, "Tweet : the plane is late", "A late plane")
    assert whole == expected[: len(whole)]
    # The template ends the turn with a line break, which nobody has to write.
    assert tokenizer.decode(expected[len(whole) :]) == "\n"


def test_labels_follow_the_turn_without_a_space(tokenizer: PreTrainedTokenizerFast) -> None:
    words = {"yes": "good", "no": "bad"}
    task = Task(name="t", template="Tweet : {tweet}", classes=("yes", "no"), verbalizer=words, end_token=True)
    encoder = encoder_of(tokenizer, task, "{input}")
    row = encoder.encode_row({"tweet": "the plane is late"}).ids
    for name, label in zip(("good", "bad"), encoder.choices, strict=True):
        expected = conversation(tokenizer, "Tweet : the plane is late", name)
        assert [*row, *label] == expected[: len(row) + len(label)]


def test_virtual_tokens_are_inside_the_users_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = encoder_of(tokenizer, SUMMARIES, "[soft:2]{input}[soft:1]").encode_row({"tweet": "late"}).ids
    first, last = ids.index(-1), ids.index(-3)
    assert ids[first : first + 2] == [-1, -2]
    assert str(tokenizer.decode(ids[:first])).endswith("<|im_start|>user\n")
    assert tokenizer.decode(ids[last + 1 :]) == "<|im_end|>\n<|im_start|>assistant\n"


def test_keys_and_values_stay_in_front_of_the_whole_row(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = encoder_of(tokenizer, SUMMARIES, "[soft:2]{input}", prefix_first=True)
    ids = encoder.encode_row({"tweet": "late"}).ids
    assert ids == [-1, -2, *conversation(tokenizer, "Tweet : late")]


def test_a_users_text_cannot_end_its_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    end = tokenizer.get_vocab()["<|im_end|>"]
    ids = encoder_of(tokenizer, SUMMARIES, "{input}").encode_row(FIELDS).ids
    assert ids.count(end) == conversation(tokenizer, "Tweet : x").count(end)


def test_a_tokenizer_without_a_chat_template_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with pytest.raises(
        ConfigError, match=r"backbone\.chat is true, and this backbone's tokenizer has no chat"
    ):
        Turn.of(plain, prefix_first=False)
    plain.chat_template = "{{ messages[0].content | upper }}"
    with pytest.raises(ConfigError, match=r"does not keep the user's text as it is"):
        Turn.of(plain, prefix_first=False)
