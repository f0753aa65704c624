"""softcue.compare: softcue-report from Python, and what a notebook shows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import softcue
from softcue.errors import ConfigError, RunError
from softcue.report.python import Report
from softcue.runs.record import RunRecord
from softcue.tables.html import html
from softcue.tables.render import csv_text, terminal
from tests.report.reading import leave, shown

MakeRun = Callable[..., RunRecord]


@pytest.fixture
def runs(tmp_path: Path, make_run: MakeRun) -> Path:
    records = [make_run(method, seed=seed, macro_f1=0.6) for method in ("a", "b") for seed in (0, 1)]
    return leave(tmp_path / "runs", records)


@pytest.fixture
def report(runs: Path) -> Report:
    return softcue.compare(runs)


def test_it_says_what_softcue_report_says(report: Report, runs: Path) -> None:
    tables, notes = shown(f"runs={runs}")
    assert str(report) == terminal(tables, notes, 120)
    assert report._repr_html_() in html(tables, notes, 120)
    assert [*report.claims, *(f"caution: {text}" for text in report.cautions)] == notes


def test_rows_are_those_of_the_csv(report: Report, runs: Path) -> None:
    tables, _ = shown(f"runs={runs}")
    (first, *_), header = report.rows(), csv_text(tables, [], 80).splitlines()[0].split(",")
    assert ["task", *header] == list(first)
    assert (first["task"], first["macro_f1"], first["macro_f1_n"]) == ("airline_complaints", 0.6, 2)


def test_settings_are_those_of_the_command(runs: Path) -> None:
    report = softcue.compare([runs], report="pairs", where={"method": "a"}, metrics=["accuracy"])
    assert [row["method"] for row in report.rows()] == ["a"]
    assert [metric.name for metric in report.comparison.metrics] == ["accuracy"]
    assert "pairs" in report.request.show


def test_two_runs_are_set_side_by_side(runs: Path) -> None:
    report = softcue.compare(runs, compare=["a-000000000000", runs / "b-000000000001"])
    assert [len(cell.runs) for cell in report.comparison.tasks[0].cells] == [1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "csv"}, "there is no setting 'format'; choose from part, metrics"),
        ({"metrics": ["loss"]}, "'loss' is not a metric"),
        ({"where": {"method": "c"}}, "which no run fits"),
    ],
)
def test_a_mistake_names_what_there_is(runs: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        softcue.compare(runs, **settings)


def test_a_plot_is_an_svg_that_a_notebook_draws_and_a_file_holds(report: Report, tmp_path: Path) -> None:
    picture = report.plot()
    assert ElementTree.fromstring(picture._repr_svg_()).tag == "{http://www.w3.org/2000/svg}svg"
    picture.save(tmp_path / "forest.svg")
    assert (tmp_path / "forest.svg").read_bytes() == picture.svg


def test_a_plot_that_there_is_not_is_refused_with_the_reason(report: Report) -> None:
    with pytest.raises(ConfigError, match="there is no plot 'violin'; choose one of forest"):
        report.plot("violin")
    with pytest.raises(ConfigError, match="there is no task 'apples'; there are airline_complaints"):
        report.plot(task="apples")
    with pytest.raises(RunError, match="calibration cannot be drawn: no run has stored predictions"):
        report.plot("calibration")


def test_the_page_is_written(report: Report, tmp_path: Path) -> None:
    report.save_page(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
