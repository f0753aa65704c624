"""Templates: a task's hard template inside a prompt's layout, parsed into words, columns, virtual tokens."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from softcue.errors import TemplateError, listed

LAYOUT_KEY = "prompt.layout"
TASK_KEY = "data.task.template"

_MARKS = re.compile(r"\{\{|\}\}|\{(?P<column>[^{}]*)\}|\[soft:(?P<soft>[^\[\]]*)\]|(?P<stray>[{}]|\[soft:)")


@dataclass(frozen=True, kw_only=True)
class Soft:
    """A slot of virtual tokens."""

    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Words:
    """Text that is the same in every row."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """The place of a row's own text."""

    name: str


TemplateSegment = Soft | Words | Column


@dataclass(frozen=True, kw_only=True)
class Template:
    """The segments of a row, from left to right. Virtual tokens are numbered in this order."""

    segments: tuple[TemplateSegment, ...]

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
                    f"{TASK_KEY} uses column {name!r}; {where} has {listed(sorted(available))}. "
                    "Rename the column in the template."
                )


def parse(source: str, *, key: str) -> Template:
    """Parse `"...{Column}...[soft:n]..."`; `{{` and `}}` are literal braces, any other `[` is text.

    Errors name `key`, the YAML key that `source` came from.
    """
    return Template(segments=merge(_segments(source, key=key)))


def compose(layout: str, task_template: str) -> Template:
    """Insert the task's template into the prompt's layout at `{input}`."""
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
    template = Template(segments=merge((*outer.segments[:at], *inner.segments, *outer.segments[at + 1 :])))
    check_end(template, key=LAYOUT_KEY)
    return template


def check_end(template: Template, *, key: str) -> None:
    """Raise a TemplateError if there is nothing before the label, or it ends in whitespace."""
    if not template.segments:
        raise TemplateError(f"{key} leaves the row empty; name a column of the table, as in {{text}}.")
    last = template.segments[-1]
    if isinstance(last, Words) and last.text != last.text.rstrip():
        raise TemplateError(
            f"{key} ends in whitespace ({last.text!r}); a label starts with a space of its own. "
            "Remove the whitespace at the end."
        )


def _segments(source: str, *, key: str) -> Iterator[TemplateSegment]:
    end = 0
    for mark in _MARKS.finditer(source):
        yield Words(text=source[end : mark.start()])
        yield _segment(mark, key=key, source=source)
        end = mark.end()
    yield Words(text=source[end:])


def _segment(mark: re.Match[str], *, key: str, source: str) -> TemplateSegment:
    if mark["column"]:
        return Column(name=mark["column"])
    if mark["soft"] is not None:
        return Soft(num_tokens=_slot_size(mark["soft"], key=key))
    if mark["column"] is None and mark["stray"] is None:
        return Words(text=mark[0][0])
    raise TemplateError(
        f"{key} has a stray {mark[0]!r} at character {mark.start()} of {source!r}. "
        "Write {Column name} or [soft:20], and double a literal brace."
    )


def _slot_size(digits: str, *, key: str) -> int:
    if re.fullmatch(r"[1-9][0-9]{0,5}", digits) is None:
        raise TemplateError(
            f"{key} has [soft:{digits:.20}]; a slot holds a whole number of virtual tokens, 1 to 999999. "
            "Write for example [soft:20], or leave the slot out."
        )
    return int(digits)


def merge(segments: Iterable[TemplateSegment]) -> tuple[TemplateSegment, ...]:
    """Join neighbouring words and drop empty ones."""
    merged: list[TemplateSegment] = []
    for part in segments:
        if isinstance(part, Words) and merged and isinstance(last := merged[-1], Words):
            merged[-1] = Words(text=last.text + part.text)
        elif part != Words(text=""):
            merged.append(part)
    return tuple(merged)
