"""A task: its columns in a hard template, and what follows them: a class's label, or a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from softcue.data import template
from softcue.data.classes import named_classes
from softcue.errors import ConfigError, TemplateError, listed

REFERENCES = "references"
"""The column of a text task's rows that holds their references."""
_RESERVED = ("id", "label")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A classification task as the config defines it, checked on creation.

    `template` is a hard template such as `"Tweet text : {Tweet text} Label :"` and may hold
    `[soft:n]`. `verbalizer` gives each class its label words without the leading space;
    `end_token` adds the tokenizer's end token after them.
    """

    name: str
    template: str
    classes: tuple[str, ...]
    verbalizer: Mapping[str, str]
    end_token: bool

    def __post_init__(self) -> None:
        named = named_classes({"classes": list(self.classes), "verbalizer": dict(self.verbalizer)})
        object.__setattr__(self, "classes", tuple(named["classes"]))
        object.__setattr__(self, "verbalizer", named["verbalizer"])
        self._check_template()
        self._check_classes()
        self._check_verbalizer()

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The text columns that the template uses."""
        return template.parse(self.template, key=template.TASK_KEY).columns

    @property
    def label_words(self) -> tuple[str, ...]:
        """The label words in class order."""
        return tuple(self.verbalizer[name] for name in self.classes)

    def _check_template(self) -> None:
        parsed = template.parse(self.template, key=template.TASK_KEY)
        if not parsed.columns:
            raise TemplateError(
                f"{template.TASK_KEY} is {self.template!r} without any column, so all rows would be alike. "
                "Name a column of the table, as in {Tweet text}."
            )
        for name in parsed.columns:
            if name in _RESERVED:
                raise TemplateError(
                    f"{template.TASK_KEY} uses column {name!r}; {list(_RESERVED)} are reserved for softcue. "
                    "Rename the column in the table."
                )
        template.check_end(parsed, key=template.TASK_KEY)

    def _check_classes(self) -> None:
        if len(self.classes) < 2:
            raise ConfigError(
                f"data.task.classes is {list(self.classes)}; a task needs at least 2 classes. Add the others."
            )
        for name in self.classes:
            if self.classes.count(name) > 1:
                raise ConfigError(f"data.task.classes names {name!r} more than once. Remove the repetition.")

    def _check_verbalizer(self) -> None:
        missing = [name for name in self.classes if name not in self.verbalizer]
        excess = [name for name in self.verbalizer if name not in self.classes]
        if missing or excess:
            raise ConfigError(
                f"data.task.verbalizer lacks {listed(missing)} and has {listed(excess)} beyond "
                "data.task.classes. "
                "Give each class its label words, and nothing else."
            )
        for name, words in self.verbalizer.items():
            if not words or words != words.strip():
                raise ConfigError(
                    f"data.task.verbalizer has {words!r} for class {name!r}; label words are not empty and "
                    "have no space around them, since the leading space is added for you. Strip them."
                )
            if self.label_words.count(words) > 1:
                raise ConfigError(
                    f"data.task.verbalizer gives {words!r} to class {name!r} and to another. "
                    "Give each class its own label words."
                )


@dataclass(frozen=True, kw_only=True)
class TextTarget:
    """Where the texts are that follow the rows.

    `column` is a column of the table, or several. Each holds a text or a list of texts. All are a row's
    references; the first one is trained on. What follows `answer_after` in a text is its answer, as "####" in
    GSM8K, and is scored by itself too.
    """

    column: str | tuple[str, ...]
    answer_after: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold references."""
        return (self.column,) if isinstance(self.column, str) else tuple(self.column)


@dataclass(frozen=True, kw_only=True)
class TextTask(Task):
    """A task whose rows are followed by a text, and then always by the tokenizer's end token."""

    target: TextTarget
    classes: tuple[str, ...] = field(default=(), init=False)
    verbalizer: Mapping[str, str] = field(default_factory=dict, init=False)
    end_token: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        given: object = self.target  # a mapping, as a config has it
        if not isinstance(given, TextTarget):
            object.__setattr__(self, "target", _text_target(given))
        self._check_template()
        if REFERENCES in self.columns:
            raise TemplateError(
                f"{template.TASK_KEY} uses column {REFERENCES!r}, which is reserved in a text task. Rename "
                "the column in the table."
            )
        for name in self.target.columns:
            if not name or name in self.columns:
                raise ConfigError(
                    f"data.task.target.column is {name!r}, and the template reads {list(self.columns)}; name "
                    "a column that holds what is to be written."
                )


def _text_target(settings: object) -> TextTarget:
    given = dict(settings) if isinstance(settings, Mapping) else {}
    column, answer_after = given.pop("column", None), given.pop("answer_after", None)
    names = [column] if isinstance(column, str) else column
    is_named = isinstance(names, Sequence) and names and all(isinstance(name, str) for name in names)
    if is_named and not given and (answer_after is None or (answer_after and isinstance(answer_after, str))):
        return TextTarget(
            column=column if isinstance(column, str) else tuple(names), answer_after=answer_after
        )
    raise ConfigError(
        f"data.task.target is {settings!r}; give the column of the texts, as in {{column: summary}}, or "
        "several in a list, and answer_after if the texts have an answer after such a mark."
    )
