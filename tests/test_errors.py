"""What data holds may be quoted in a message, and cannot steer the terminal on which it is printed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError

from softcue.cli import PrintableFormatter, print_error, run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import DataError, listed, note_log, printable


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


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """A command that ends on an exception."""
    monkeypatch.setattr("softcue.cli.HydraConfig.get", lambda: SimpleNamespace(mode=RunMode.RUN))

    def run(error: Exception) -> None:
        def fail(_: DictConfig) -> None:
            raise error

        with pytest.raises(SystemExit, match="1"):
            run_app(fail)(DictConfig({}))

    return run


def test_a_mistake_is_one_line_without_a_stack(
    command: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(DataError("rows.csv is empty"))
    assert capsys.readouterr().err == "error: rows.csv is empty\n"
    command(InterpolationKeyError("Interpolation key 'x' not found\n    full_key: seed"))
    assert capsys.readouterr().err == (
        "error: seed is taken from x, which is not set; set one of them, or choose another option.\n"
    )


def test_a_bug_says_so_with_its_stack_once(
    command: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(KeyError("\x1b[2J"))
    printed = capsys.readouterr().err
    assert printed.count("Traceback (most recent call last)") == 1
    assert printed.splitlines()[-1] == (
        "error: KeyError: '\\x1b[2J' - this is a bug in softcue, not a mistake of yours: please report it "
        "with the stack, which is above."
    )
    assert "\x1b" not in printed


def test_a_bug_whose_stack_is_in_a_log_names_the_log_alone(
    command: Callable[[Exception], None], capsys: pytest.CaptureFixture[str]
) -> None:
    error = ValueError("what")
    note_log(error, "runs/a/run.log")
    command(error)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ValueError: what - this is a bug")
    assert line.endswith("with the stack, which is in runs/a/run.log.")


def test_what_data_holds_reaches_no_log_as_it_is() -> None:
    record = logging.LogRecord("a", logging.INFO, "", 0, "class %s\nnext", ("\x1b[2J\x9b",), None)
    assert PrintableFormatter("%(message)s").format(record) == "class \\x1b[2J\\x9b\nnext"
    logging_of = OmegaConf.load(CONFIG_PATH / "hydra" / "default.yaml").hydra.job_logging
    assert logging_of.formatters.simple["class"] == "softcue.cli.PrintableFormatter"


def test_many_names_are_listed_by_the_first_and_their_number() -> None:
    assert listed(("a", "b")) == "['a', 'b']"
    assert listed(list("abcdef")) == "['a', 'b', 'c', 'd', 'e'] and 1 more"
    assert listed("abc", limit=1) == "['a'] and 2 more"
