"""`softcue-inspect` as a user runs it: tables, files, pictures, help and mistakes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch

from softcue.inspect.__main__ import main
from softcue.inspect.plot import draw
from softcue.inspect.reading import Embeddings, Neighbour, Reading, read
from softcue.inspect.tables import tables
from softcue.tables.table import Table
from softcue.trained import load
from tests.cases import slow_but
from tests.entry_points import run_script
from tests.inspect.conftest import TrainFast

Inspect = Callable[..., str]


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inspect:
    """Run the command in this process, where the model stays loaded; the output."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["softcue-inspect", *arguments])
        monkeypatch.setenv("COLUMNS", "120")
        capsys.readouterr()
        main()
        return capsys.readouterr().out

    return run


def test_the_terminal_shows_a_line_for_each_virtual_token(train_fast: TrainFast, inspect: Inspect) -> None:
    printed = inspect(f"run={train_fast('prompt=prompt_tuning')}", "rows=2", "nearest=3")
    lines = printed.split("Nearest words, ")[0].splitlines()
    assert lines[0] == "prompt_tuning · airline_complaints · tiny · seed 0"
    assert [line.split()[0] for line in lines if line.strip()[:1].isdigit()] == [str(k) for k in range(20)]
    assert re.search(r"'.+' 0\.\d", printed)
    assert "the text of 2 training rows" in " ".join(printed.split())
    assert "…" not in printed


def test_a_prefix_is_shown_by_position_and_by_layer(train_fast: TrainFast, inspect: Inspect) -> None:
    printed = inspect(f"run={train_fast('prompt=prefix_tuning')}", "rows=2")
    lines = printed.splitlines()
    assert sum(line.strip()[:1].isdigit() for line in lines) == 20 + 2
    assert "by layer" in printed
    assert "nearest" not in printed


def test_markdown_has_as_many_cells_in_every_line(
    train_fast: TrainFast, inspect: Inspect, tmp_path: Path
) -> None:
    path = tmp_path / "tokens.md"
    assert (
        inspect(f"run={train_fast('prompt=p_tuning')}", "rows=2", "format=markdown", f"output={path}") == ""
    )
    table = [line for line in path.read_text().splitlines() if line.startswith("|")]
    assert len(table) == 2 + 20
    assert {line.replace("\\|", "").count("|") for line in table} == {8}


def test_csv_has_every_layer_and_position_of_a_prefix(train_fast: TrainFast, inspect: Inspect) -> None:
    printed = inspect(f"run={train_fast('prompt=prefix_tuning')}", "rows=2", "format=csv")
    lines = list(csv.DictReader(io.StringIO(printed)))
    assert [(line["layer"], line["position"]) for line in lines] == [
        (str(layer), str(position)) for layer in range(2) for position in range(20)
    ]
    shares = [float(line["attention"]) for line in lines if line["layer"] == "1"]
    assert 0 < sum(shares) < 1


def test_csv_has_a_line_for_each_token_and_a_suffix_no_attention(
    train_fast: TrainFast, inspect: Inspect
) -> None:
    printed = inspect(f"run={train_fast('prompt=prompt_tuning_suffix')}", "rows=2", "nearest=2", "format=csv")
    lines = list(csv.DictReader(io.StringIO(printed)))
    assert len(lines) == 20
    assert {line["attention"] for line in lines} == {""}
    assert all(float(line["nearest_1_cosine"]) >= float(line["nearest_2_cosine"]) for line in lines)


@pytest.mark.slow
def test_a_picture_is_drawn_as_well(train_fast: TrainFast, inspect: Inspect, tmp_path: Path) -> None:
    path = tmp_path / "prompt.png"
    assert inspect(f"run={train_fast('prompt=prefix_tuning')}", "rows=2", f"plot={path}") != ""
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "method", slow_but(["prefix_tuning"], ["prompt_tuning_suffix", "prefix_tuning", "prompt_tuning"])
)
def test_the_same_reading_draws_the_same_picture(train_fast: TrainFast, method: str) -> None:
    reading = read(load(train_fast(f"prompt={method}")), prompt=0, num_nearest=1, num_rows=2)
    first = draw(reading, form="svg")
    assert ET.fromstring(first).tag.endswith("svg")
    assert draw(reading, form="svg") == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: run has no default; give it as run=..."),
        (["run=nowhere"], "error: nowhere holds no record.json; give the folder of a run"),
        (["run=x", "format=pdf"], "error: format is 'pdf'; choose one of terminal, markdown, latex, html,"),
        (["run=x", "rows=0"], "error: rows is 0; give a whole number from 1 up."),
        (["run=x", "nearest=0"], "error: nearest is 0; give a whole number from 1 up."),
        (["run=x", "plot=picture.jpg"], "error: plot is 'picture.jpg'; end its name in .png or .svg."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    inspect: Inspect, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        inspect(*arguments)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_help_teaches_by_three_examples(tmp_path: Path) -> None:
    done = run_script("softcue-inspect", "--help", cwd=tmp_path)
    assert sum(line.strip().startswith("softcue-inspect run=") for line in done.stdout.splitlines()) == 3
    assert "nearest: 5" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_words_of_any_letters_are_shown_unchanged() -> None:
    words = (Neighbour(text="[b]|", cosine=0.5), Neighbour(text=" `\n", cosine=0.25))
    (column,) = (column for column in _table(words).columns if column.name == "nearest")
    assert column.cell(0) == r"'[b]|' 0.50 ' `\n' 0.25"
    assert column.fields(words) == {
        "_1": "[b]|",
        "_1_cosine": 0.5,
        "_2": " `\n",
        "_2_cosine": 0.25,
    }


def _table(words: tuple[Neighbour, ...]) -> Table[int]:
    """The table of a prompt of one virtual token with these neighbours."""
    one_P = torch.ones(1)
    reading = Reading(
        title="t",
        notes=(),
        num_rows=1,
        similarity_PP=torch.ones(1, 1),
        attention_LP=torch.ones(1, 1),
        own=Embeddings(
            nearest=(words,), norm_P=one_P, percentile_P=one_P, vocabulary_Q=torch.ones(3), drift_P=None
        ),
    )
    (table,) = tables(reading)
    return table
