"""Templates and layouts, parsed and composed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcue.data.template import Column, Soft, Template, TemplateSegment, Words, compose, parse
from softcue.errors import TemplateError

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: "[soft:" not in text
)
_NAMES = st.text("abc XYZ_?.[]", min_size=1)
_SLOTS = st.integers(1, 99).map(lambda n: Soft(num_tokens=n))
_SEGMENTS = st.one_of(
    _WORDS.map(lambda text: Words(text=text)), _NAMES.map(lambda name: Column(name=name)), _SLOTS
)


def _write(segments: list[TemplateSegment]) -> str:
    return "".join(_write_segment(segment) for segment in segments)


def _write_segment(segment: TemplateSegment) -> str:
    match segment:
        case Soft(num_tokens=num_tokens):
            return f"[soft:{num_tokens}]"
        case Column(name=name):
            return f"{{{name}}}"
        case Words(text=text):
            return text.replace("{", "{{").replace("}", "}}")


def _alternate(segments: list[TemplateSegment]) -> list[TemplateSegment]:
    """The segments without words that follow other words."""
    pairs = zip([Soft(num_tokens=1), *segments], segments, strict=False)
    return [part for before, part in pairs if not (isinstance(before, Words) and isinstance(part, Words))]


@given(st.lists(_SEGMENTS).map(_alternate))
def test_parsing_a_written_template_gives_the_template(segments: list[TemplateSegment]) -> None:
    assert parse(_write(segments), key="k") == Template(segments=tuple(segments))


@given(
    st.lists(_SEGMENTS).map(_alternate),
    st.lists(_SLOTS, max_size=2),
    st.lists(_SLOTS, min_size=1, max_size=2),
)
def test_composing_inserts_the_task_at_the_input(
    inner: list[TemplateSegment], before: list[TemplateSegment], after: list[TemplateSegment]
) -> None:
    layout = _write([*before, Column(name="input"), *after])
    assert compose(layout, _write(inner)).segments == (*before, *inner, *after)


def test_virtual_tokens_are_the_sum_of_all_slots() -> None:
    template = compose("[soft:5] complaint[soft:5]{input}[soft:2]", "[soft:3]{a} and {b}, {a} :")
    assert template.num_virtual_tokens == 15
    assert template.columns == ("a", "b")


def test_words_beside_the_input_join_those_of_the_task() -> None:
    assert compose("Now: {input}", "Tweet {t} :").segments == (
        Words(text="Now: Tweet "),
        Column(name="t"),
        Words(text=" :"),
    )


def test_doubled_braces_and_other_brackets_are_words() -> None:
    assert parse("{{a}} [b] [soft]", key="k").segments == (Words(text="{a} [b] [soft]"),)


@pytest.mark.parametrize(
    ("layout", "task_template", "message"),
    [
        ("[soft:0]{input}", "{t} :", r"prompt\.layout has \[soft:0\]; a slot holds a whole number"),
        ("[soft:x]{input}", "{t} :", r"prompt\.layout has \[soft:x\]"),
        ("[soft:3 {input}", "{t} :", r"prompt\.layout has a stray '\[soft:' at character 0"),
        ("{input}", "[soft:-1]{t} :", r"data\.task\.template has \[soft:-1\]"),
        ("{input}", "{t :", r"data\.task\.template has a stray '\{' at character 0"),
        ("{input}", "{} {t} :", r"data\.task\.template has a stray '\{\}'"),
        (
            "[soft:5]",
            "{t} :",
            r"prompt\.layout is '\[soft:5\]' with 0 \{input\}; write \{input\} exactly once",
        ),
        ("{input}{input}", "{t} :", r"with 2 \{input\}"),
        ("{t}{input}", "{t} :", r"prompt\.layout uses column 't'; a layout knows only \{input\}"),
        ("{input}", "", r"prompt\.layout leaves the row empty; name a column"),
        (
            "{input} ",
            "{t} :",
            r"prompt\.layout ends in whitespace \(' : '\); a label starts with a space of its own",
        ),
    ],
)
def test_a_mistake_in_a_template_is_reported_with_its_key(
    layout: str, task_template: str, message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        compose(layout, task_template)


def test_an_unknown_column_is_reported_with_the_known_ones() -> None:
    message = (
        r"data\.task\.template uses column 'Tweet'; a\.csv has \['Label', 'Tweet text'\]\. Rename the column"
    )
    with pytest.raises(TemplateError, match=message):
        parse("{Tweet} :", key="k").check_columns(["Tweet text", "Label"], where="a.csv")
