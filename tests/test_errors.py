"""What data holds may be quoted in a message, and cannot steer the terminal on which it is printed."""

from __future__ import annotations

import pytest

from softcue.cli import print_error
from softcue.errors import DataError, listed, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 日本, 😀", "plain, é, 日本, 😀"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\rb\x00", "a\\rb\\x00"),
        ("a\udcffb", "a\\udcffb"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(DataError("t.csv line 2\nhas \x1b[31mred\x1b[0m\u2028text"))
    assert capsys.readouterr().err == "error: t.csv line 2 has \\x1b[31mred\\x1b[0m text\n"


def test_many_names_are_listed_by_the_first_and_their_number() -> None:
    assert listed(("a", "b")) == "['a', 'b']"
    assert listed(list("abcdef")) == "['a', 'b', 'c', 'd', 'e'] and 1 more"
    assert listed("abc", limit=1) == "['a'] and 2 more"
