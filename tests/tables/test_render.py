"""A declared table in each format."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from softcue.errors import ConfigError
from softcue.runs.metrics import Statistic
from softcue.tables.html import html
from softcue.tables.render import (
    RENDERERS,
    csv_text,
    escape_latex,
    escape_markdown,
    expect_format,
    latex,
    markdown,
    terminal,
    write_tables,
)
from softcue.tables.table import (
    Column,
    Table,
    duration,
    mean_and_deviation,
    memory,
    number,
    statistic_fields,
)

Row = Mapping[str, float | None]


def scores(*values: float | None, name: str = "prompt_tuning", title: str = "airline") -> Table[float | None]:
    """A table of one number a row."""
    return Table(
        title=title,
        columns=(Column("method", lambda _: name), number("macro-F1", lambda value: value, "{:.3f}".format)),
        rows=values,
    )


HOSTILE = "[a](http://b) <b>*x*</b> `c` |d| _e_ ~~f~~ ![g](h) &amp; $i$ \\ __j__ snake_case"


def test_markdown_is_a_grid_with_its_title_caption_and_notes() -> None:
    table = scores(0.8, None)
    assert markdown([table], ["failed: x"], 80) == (
        "**airline**\n\n"
        "| method | macro-F1 |\n"
        "| --- | ---: |\n"
        "| prompt_tuning | 0.800 |\n"
        "| prompt_tuning | – |\n\n"
        "- failed: x\n"
    )


def test_hostile_text_stays_text_in_markdown() -> None:
    """Parsed by another implementation, each text comes back whole and nothing else is there."""
    table = scores(0.5, name=HOSTILE, title=HOSTILE)
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(markdown([table], [HOSTILE], 80))
    inline = [token for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in token.children or ()) for token in inline]
    assert texts == [HOSTILE, "method", "macro-F1", HOSTILE, "0.500", HOSTILE]
    kinds = {child.type for token in inline for child in token.children or ()}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}
    assert sum(child.type == "strong_open" for token in inline for child in token.children or ()) == 1


class Document(HTMLParser):
    """The elements of an HTML text, and its texts outside of its head, as a browser would have them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip() and "body" in self.tags:
            self.texts.append(data.strip())


def test_hostile_text_stays_text_in_html() -> None:
    found = Document(html([scores(0.5, name=HOSTILE, title=HOSTILE)], [HOSTILE], 80))
    assert found.texts == [HOSTILE, "method", "macro-F1", HOSTILE, "0.500", HOSTILE]
    assert found.tags[found.tags.index("body") + 1 :] == [
        *("table", "caption", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "ul", "li")
    ]


def test_html_aligns_numbers_to_the_right_and_keeps_each_on_a_line() -> None:
    text = html([scores(0.5)], [], 80)
    assert 'text-align: right; vertical-align: baseline; white-space: nowrap">0.500</td>' in text


def test_latex_is_a_tabular_of_booktabs_with_its_title_and_notes_as_comments() -> None:
    assert latex([scores(0.8, None, title="airline · 5 %")], ["failed: x"], 80) == (
        "% airline · 5 %\n"
        "\\begin{tabular}{lr}\n"
        "\\toprule\n"
        "method & macro-F1 \\\\\n"
        "\\midrule\n"
        "prompt\\_tuning & 0.800 \\\\\n"
        "prompt\\_tuning & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n\n"
        "% failed: x\n"
    )


def test_no_character_of_a_text_is_a_command_of_latex() -> None:
    """Every character with a meaning in LaTeX (Lamport 1994, section 2.1) comes out behind a backslash."""
    assert escape_latex("a_b & 5 % #1 {x} $y$") == r"a\_b \& 5 \% \#1 \{x\} \$y\$"
    assert escape_latex("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape_latex("0.8 ± 0.1 [0.7, 0.9]") == r"0.8 $\pm$ 0.1 {[}0.7, 0.9{]}"


@pytest.mark.parametrize("text", ["prompt_tuning", "macro-F1", "seed=0 (n=5)", "a & b", "100 % > 5"])
def test_plain_names_and_numbers_are_not_escaped(text: str) -> None:
    assert escape_markdown(text) == text


def test_a_line_break_in_a_cell_does_not_end_its_row() -> None:
    assert "| a b | 0.500 |" in markdown([scores(0.5, name="a\nb")], [], 80)


def test_the_terminal_shows_title_cells_and_notes() -> None:
    text = terminal([scores(0.8, name="[red]", title="[b] · test")], ["failed: [x]"], 80)
    assert text.startswith("[b] · test\n")
    assert "[red]" in text
    assert text.endswith("\n\nfailed: [x]\n")


def test_a_narrow_terminal_wraps_labels_and_cuts_no_number() -> None:
    spread = Statistic(mean=0.75, std=0.0707, n=2)
    columns: tuple[Column[str], ...] = (
        Column("method", lambda label: label),
        *(number(f"score {at}", lambda _: spread, mean_and_deviation("{:.3f}".format)) for at in range(3)),
    )
    label = "prompt_tuning, prompt.layout=[soft:5]{input}, optimizer.lr=0.3"
    narrow, wide = (terminal([Table(columns=columns, rows=[label])], [], width) for width in (60, 200))
    assert max(map(len, narrow.splitlines())) < 100 < max(map(len, wide.splitlines()))
    for text in (narrow, wide):
        assert text.count("0.750 ± 0.071") == 3
        assert text.count("(n=2)") == 3
        assert all(word in text for word in label.split())
    assert "0.750 ± 0.071 (n=2)" in wide


def test_a_table_as_wide_as_the_terminal_fills_it_and_no_more() -> None:
    texts: list[Column[int]] = [Column(name, lambda _: "some words that may be wrapped") for name in "abc"]
    lines = terminal([Table(columns=texts, rows=[0])], [], 70).splitlines()
    assert max(map(len, lines)) in (69, 70)


def test_control_characters_reach_neither_terminal_nor_markdown() -> None:
    table = scores(0.5, name="a\x1b[2Jb\x9bc", title="\x1b]0;x\x07")
    for render in (terminal, markdown):
        text = render([table], ["n\x1b[1m"], 80)
        assert not set(text) & set(map(chr, [*range(10), *range(11, 32), *range(127, 160)]))


def test_csv_has_unrounded_numbers_and_nothing_for_a_missing_one() -> None:
    table = Table(
        columns=(
            Column("method", lambda row: row[0]),
            Column("macro-F1", lambda row: row[1], name="macro_f1", fields=statistic_fields),
        ),
        rows=[("a", Statistic(mean=1 / 3, std=None, n=1)), ("b", None)],
    )
    lines = list(csv.DictReader(io.StringIO(csv_text([table], [], 80))))
    assert lines == [
        {"method": "a", "macro_f1": repr(1 / 3), "macro_f1_std": "", "macro_f1_n": "1"},
        {"method": "b", "macro_f1": "", "macro_f1_std": "", "macro_f1_n": "0"},
    ]


def test_csv_is_written_alone_and_its_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    write_tables([scores(0.5)], form="csv", output=None, notes=["failed: x"])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("method,macro-F1\nprompt_tuning,0.5\n", "failed: x\n")


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    for form in RENDERERS:
        expect_format(form)
    known = "terminal, markdown, latex, html, csv"
    with pytest.raises(ConfigError, match=f"format is 'pdf'; choose one of {known}"):
        expect_format("pdf")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (92, "1 min 32 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_rounded_to_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("megabytes", "words"), [(812.4, "812 MB"), (999.7, "1.0 GB"), (1900, "1.9 GB")])
def test_memory_is_in_megabytes_or_gigabytes(megabytes: float, words: str) -> None:
    assert memory(megabytes) == words
