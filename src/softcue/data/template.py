"""Templates: a task's hard template inside a prompt's layout, parsed into text, columns, virtual tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from softcue.errors import TemplateError

LAYOUT_KEY = "prompt.layout"
TASK_KEY = "data.task.template"

_MARKS = re.compile(r"\{\{|\}\}|\{(?P<column>[^{}]*)\}|\[soft:(?P<soft>[^\[\]]*)\]|(?P<stray>[{}]|\[soft:)")


@dataclass(frozen=True, kw_only=True)
class Soft:
    """A slot of virtual tokens."""

    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Text:
    """Words that stand in every row."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A place for a row's own text."""

    name: str


Segment = Soft | Text | Column


@dataclass(frozen=True, kw_only=True)
class Template:
    """What a row is made of, from left to right. Virtual tokens are numbered in this order."""

    segments: tuple[Segment, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns used, each once, in order of first use."""
        return tuple(dict.fromkeys(part.name for part in self.segments if isinstance(part, Column)))

    @property
    def num_virtual_tokens(self) -> int:
        """P: the sum of all slots."""
        return sum(part.num_tokens for part in self.segments if isinstance(part, Soft))

    def check_columns(self, available: Collection[str], *, where: str) -> None:
        """Raise a TemplateError for a column that the table `where` does not have."""
        for name in self.columns:
            if name not in available:
                raise TemplateError(
                    f"{TASK_KEY} uses column {name!r}; {where} has {sorted(available)}. "
                    "Rename the column in the template."
                )


def parse(source: str, *, key: str) -> Template:
    """Read `"...{Column}...[soft:n]..."`; `{{` and `}}` are literal braces, any other `[` is text.

    Errors name `key`, the YAML key that `source` came from.
    """
    return Template(segments=_merge(_segments(source, key=key)))


def compose(layout: str, task_template: str) -> Template:
    """Put the task's template where the prompt's layout has `{input}`."""
    outer, inner = parse(layout, key=LAYOUT_KEY), parse(task_template, key=TASK_KEY)
    foreign = [name for name in outer.columns if name != "input"]
    if foreign:
        raise TemplateError(
            f"{LAYOUT_KEY} uses column {foreign[0]!r}; a layout knows only {{input}}. "
            f"Put the column into {TASK_KEY}."
        )
    count = outer.segments.count(Column(name="input"))
    if count != 1:
        raise TemplateError(
            f"{LAYOUT_KEY} is {layout!r} with {count} {{input}}; write {{input}} exactly once, "
            'as in "[soft:20]{input}".'
        )
    at = outer.segments.index(Column(name="input"))
    template = Template(segments=_merge((*outer.segments[:at], *inner.segments, *outer.segments[at + 1 :])))
    check_end(template, key=LAYOUT_KEY)
    return template


def check_end(template: Template, *, key: str) -> None:
    """Raise a TemplateError if the text before the label ends in whitespace."""
    last = template.segments[-1]
    if isinstance(last, Text) and last.text != last.text.rstrip():
        raise TemplateError(
            f"{key} ends in whitespace ({last.text!r}); the label brings its own space. Drop it from the end."
        )


def _segments(source: str, *, key: str) -> Iterator[Segment]:
    end = 0
    for mark in _MARKS.finditer(source):
        yield Text(text=source[end : mark.start()])
        yield _segment(mark, key=key, source=source)
        end = mark.end()
    yield Text(text=source[end:])


def _segment(mark: re.Match[str], *, key: str, source: str) -> Segment:
    if mark["column"]:
        return Column(name=mark["column"])
    if mark["soft"] is not None:
        return Soft(num_tokens=_slot_size(mark["soft"], key=key))
    if mark["column"] is None and mark["stray"] is None:
        return Text(text=mark[0][0])
    raise TemplateError(
        f"{key} has a stray {mark[0]!r} at character {mark.start()} of {source!r}. "
        "Write {Column name} or [soft:20], and double a literal brace."
    )


def _slot_size(digits: str, *, key: str) -> int:
    if re.fullmatch(r"[1-9][0-9]*", digits) is None:
        raise TemplateError(
            f"{key} has [soft:{digits}]; a slot holds a whole number of virtual tokens from 1 up. "
            "Write for instance [soft:20], or leave the slot out."
        )
    return int(digits)


def _merge(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    merged: list[Segment] = []
    for part in segments:
        if isinstance(part, Text) and merged and isinstance(last := merged[-1], Text):
            merged[-1] = Text(text=last.text + part.text)
        elif part != Text(text=""):
            merged.append(part)
    return tuple(merged)
