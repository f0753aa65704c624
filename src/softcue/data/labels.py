"""Label words to label tokens, as they stand after the template."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from softcue.contracts import Choices
from softcue.data.task import Task
from softcue.data.template import Template, Text
from softcue.errors import ConfigError


def label_choices(task: Task, template: Template, tokenizer: PreTrainedTokenizerFast) -> Choices:
    """The tokens of " label" for each class, with the end token if the task asks for it."""
    last = template.segments[-1]
    anchor = last.text if isinstance(last, Text) else "x"
    end = _end_tokens(task, tokenizer)
    choices = tuple((*_label_tokens(words, anchor, tokenizer), *end) for words in task.label_words)
    for name, tokens in zip(task.classes, choices, strict=True):
        if choices.count(tokens) > 1:
            raise ConfigError(
                f"data.task.verbalizer gives class {name!r} the tokens {tokens}, and another class too. "
                "Choose label words that this backbone's tokenizer tells apart."
            )
    return choices


def never_chosen(task: Task, choices: Choices) -> list[tuple[str, str]]:
    """Pairs of classes of which the second never wins by summed likelihood: it continues the first's label.

    log P(a) is never below log P(a) + log P(b | a), whatever the model.
    """
    named = list(zip(task.classes, choices, strict=True))
    return [
        (first, second)
        for first, beginning in named
        for second, label in named
        if first != second and label[: len(beginning)] == beginning
    ]


def _label_tokens(words: str, anchor: str, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    # With what stands before it, for a tokenizer that puts a space in front of every text of its own.
    before: list[int] = tokenizer(anchor, add_special_tokens=False)["input_ids"]
    both: list[int] = tokenizer(f"{anchor} {words}", add_special_tokens=False)["input_ids"]
    if both[: len(before)] != before or len(both) == len(before):
        raise ConfigError(
            f"data.task.verbalizer's {words!r} has no tokens of its own after {anchor!r} under this "
            "tokenizer. End data.task.template in another mark, or choose other label words."
        )
    return tuple(both[len(before) :])


def _end_tokens(task: Task, tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    if not task.end_token:
        return ()
    if tokenizer.eos_token_id is None:
        raise ConfigError("data.task.end_token is true; this tokenizer has no end token. Set it to false.")
    return (tokenizer.eos_token_id,)
