"""`softcue-report` as a user runs it, in a folder."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from tests.entry_points import run_script

MakeRun = Callable[..., RunRecord]


@pytest.fixture
def runs(tmp_path: Path, make_run: MakeRun, failed_run: RunRecord) -> Path:
    """Two complete runs, a failed one and a corrupt one under `runs/demo`."""
    complete = [
        make_run("prompt_tuning", seed=0, macro_f1=0.8),
        make_run("hard_prompt", seed=0, macro_f1=0.5),
    ]
    for record in (*complete, failed_run):
        folder = RunFolder(tmp_path / "runs" / "demo", record.run_id)
        folder.create()
        folder.write_record(record)
    (tmp_path / "runs" / "demo" / "broken").mkdir()
    (tmp_path / "runs" / "demo" / "broken" / "record.json").write_text("{")
    return tmp_path


def _report(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return run_script("softcue-report", *arguments, cwd=folder)


def test_the_table_names_every_method_and_the_notes_what_went_wrong(runs: Path) -> None:
    done = _report(runs, "runs=runs/demo")
    assert (done.returncode, done.stderr) == (0, "")
    title, *_, failed, unreadable = done.stdout.splitlines()
    assert title.strip() == "airline_complaints · smollm2_135m · test"
    assert done.stdout.index("prompt_tuning") < done.stdout.index("hard_prompt")
    assert failed.startswith("failed: p_tuning, seed 2")
    assert unreadable.startswith("unreadable: runs/demo/broken/record.json cannot be read")
    assert {path.name for path in runs.iterdir()} == {"runs"}


def test_output_holds_the_csv_alone_and_the_notes_go_to_stderr(runs: Path) -> None:
    done = _report(runs, "runs=runs/demo", "format=csv", "output=table.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert "failed: p_tuning" in done.stderr
    with (runs / "table.csv").open() as file:
        assert [line["method"] for line in csv.DictReader(file)] == ["prompt_tuning", "hard_prompt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs=none"], "error: no run records under none: looked for record.json there"),
        (
            ["runs=runs/demo", "format=pdf"],
            "error: format is 'pdf'; choose one of terminal, markdown, latex, html, csv.",
        ),
        (
            ["runs=runs/demo", "sort_by=loss"],
            "error: 'loss' is not a metric; choose one of accuracy",
        ),
        (
            ["runs=runs/demo", "output=no/table.txt"],
            "error: no/table.txt cannot be written: there is no",
        ),
        (["runs=???"], "error: runs has no default; give it as runs=..."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(runs: Path, arguments: list[str], message: str) -> None:
    done = _report(runs, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_a_folder_where_nothing_is_complete_says_why(tmp_path: Path, failed_run: RunRecord) -> None:
    folder = RunFolder(tmp_path, failed_run.run_id)
    folder.create()
    folder.write_record(failed_run)
    done = _report(tmp_path, "runs=.")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no run under . is complete. failed: p_tuning, seed 2")


def test_help_teaches_the_command_by_two_examples(tmp_path: Path) -> None:
    done = _report(tmp_path, "--help")
    assert done.returncode == 0
    assert "softcue-report runs=runs/demo\n" in done.stdout
    assert "softcue-report runs=runs/demo format=markdown output=table.md\n" in done.stdout
    assert "format: terminal" in done.stdout
