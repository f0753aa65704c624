"""`softcue-predict` without its process and its model: what it reads, refuses, resumes and leaves behind."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError, DataError, RunBusyError, RunError
from softcue.predict.command import predict_table
from softcue.predict.output import PartialOutput
from softcue.predict.settings import PredictSettings

CLASSES = ("long", "short")


class KilledError(BaseException):
    """The end of a process between two instructions."""


class CheapPrompt:
    """What the command uses of a trained prompt, without a model; a text is judged by its length."""

    writes_texts = False
    template = SimpleNamespace(columns=("text",))
    task = SimpleNamespace(classes=CLASSES, name="lengths")
    record = SimpleNamespace(run_id="cheap-0", finished_at="2026-01-02")

    def predict(self, rows: Sequence[Mapping[str, str]], *, batch_size: int) -> Iterator[SimpleNamespace]:
        """Probabilities that depend on the whole batch, as a real model's last digits do."""
        total = sum(len(row["text"]) for row in rows)
        for row in rows:
            share = len(row["text"]) / total
            yield SimpleNamespace(probabilities={"long": share, "short": 1 - share})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the test's own folder, with the cheap prompt for any run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softcue.trained.load", lambda folder, task: CheapPrompt())


def settings_of(*overrides: str) -> PredictSettings:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        composed = compose(config_name="predict", overrides=["run=r", *overrides])
    return PredictSettings.of(OmegaConf.to_container(composed, throw_on_missing=True))


def predict(*overrides: str) -> None:
    predict_table(settings_of(*overrides))


def table(num_rows: int, *, path: str = "in.csv") -> Path:
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "text"])
        writer.writerows((row, f"tweet {row} " + "so\nlong " * (row % 3 + 1)) for row in range(num_rows))
    return Path(path)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["input=t.xls"], r"t\.xls should end in one of \.csv, \.tsv, \.json, \.jsonl, \.parquet; convert"),
        (
            ["input=t.csv", "output=t.parquet"],
            r"t\.parquet should end in one of \.csv, \.tsv, \.jsonl; convert",
        ),
        (["format=html"], "format is 'html'; it should be 'csv', 'tsv', 'json', 'jsonl' or 'raft'"),
        (["format=raft", "output=t.tsv"], r"output is t\.tsv, and format=raft writes CSV; name it"),
        (["format=csv", "input=a.csv", "output=b.csv"], "format=csv is the format of stdin or stdout"),
        (["on_bad_row=ignore"], "on_bad_row is 'ignore'; it should be 'fail' or 'skip'"),
        (["batch_size=0"], "batch_size is 0; it should be greater than 0"),
        (["chunk_rows=many"], "chunk_rows is 'many'; it should be a valid integer"),
        (["overwrite=perhaps"], "overwrite is 'perhaps'; it should be a valid boolean"),
        (["escape_formulas=true", "output=o.jsonl"], "escape_formulas=true is for CSV and TSV; the output"),
    ],
)
def test_a_mistake_in_the_settings_is_named(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(*given)


def test_a_column_named_by_a_number_is_its_text() -> None:
    assert settings_of("column=0").column == "0"


def test_a_file_keeps_its_columns_and_gets_the_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    before = rows_of(str(table(5)))
    predict("input=in.csv", "output=out.csv")
    after = rows_of("out.csv")
    assert list(after[0]) == ["ID", "text", "predicted", "p(long)", "p(short)"]
    assert [{name: row[name] for name in ("ID", "text")} for row in after] == before
    share = len(before[0]["text"]) / sum(len(row["text"]) for row in before)
    assert float(after[0]["p(long)"]) == pytest.approx(share, rel=1e-5)
    assert capsys.readouterr().err == "out.csv: 5 rows predicted, 0 skipped\n"
    assert names() == ["in.csv", "out.csv"]


def test_an_output_is_replaced_only_if_wanted() -> None:
    table(2)
    Path("out.csv").write_text("precious")
    with pytest.raises(RunError, match=r"out\.csv exists; choose another .* overwrite=true"):
        predict("input=in.csv", "output=out.csv")
    assert Path("out.csv").read_text() == "precious"
    predict("input=in.csv", "output=out.csv", "overwrite=true")
    assert len(rows_of("out.csv")) == 2


FILE_CALLS = ((Path, "open"), (Path, "replace"), (Path, "unlink"), (os, "fsync"))


def predict_mortally(monkeypatch: pytest.MonkeyPatch, settings: PredictSettings, *, steps: int) -> bool:
    """Die before the file operation that follows so many; whether there was one."""
    left = iter(range(steps))
    died = False

    def mortal(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal died
            if died or next(left, None) is None:
                died = True
                raise KilledError
            return original(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        for owner, name in FILE_CALLS:
            patched.setattr(owner, name, mortal(getattr(owner, name)))
        with suppress(KilledError):
            predict_table(settings)
    return died


@pytest.mark.parametrize("options", [(), ("overwrite=true",)])
def test_dying_before_any_file_operation_changes_no_byte(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    table(10)
    predict("input=in.csv", "chunk_rows=4", "output=whole.csv")
    settings = settings_of("input=in.csv", "chunk_rows=4", "output=out.csv", *options)
    steps = 0
    while predict_mortally(monkeypatch, settings, steps=steps):
        predict_table(settings)
        assert capsys.readouterr().err.splitlines()[-1] == "out.csv: 10 rows predicted, 0 skipped"
        assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
        Path("out.csv").unlink()
        # The temporary file of a note that was being written.
        assert [name for name in names() if not name.endswith(".tmp")] == ["in.csv", "whole.csv"]
        steps += 1
    assert steps > 20


def killed_after_the_rename(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a process that was killed when its output had its name and its note was still there."""

    def die(partial: PartialOutput) -> None:
        partial.part.replace(partial.path)
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(PartialOutput, "finish", die)
        with pytest.raises(KilledError):
            predict("input=in.csv", "output=out.csv")
    assert names() == ["in.csv", "out.csv", "out.csv.part.json"]


def test_an_output_that_is_complete_is_recognised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table(10)
    killed_after_the_rename(monkeypatch)
    before = Path("out.csv").stat()
    predict("input=in.csv", "output=out.csv")
    assert Path("out.csv").stat().st_mtime_ns == before.st_mtime_ns
    assert capsys.readouterr().err.splitlines()[-1] == "out.csv: 10 rows predicted, 0 skipped"
    assert names() == ["in.csv", "out.csv"]


def test_an_output_that_is_complete_for_other_rows_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    table(10)
    killed_after_the_rename(monkeypatch)
    table(11)
    with pytest.raises(RunError, match=r"out\.csv exists"):
        predict("input=in.csv", "output=out.csv")
    predict("input=in.csv", "output=out.csv", "overwrite=true")
    assert len(rows_of("out.csv")) == 11
    assert names() == ["in.csv", "out.csv"]


def stopped_at_row(row: int) -> None:
    """Leave a partial output of a table whose one row is bad."""
    lines = table(6).read_text()
    Path("in.csv").write_text(lines.replace(f"\n{row},", f"\n{row},too many,"))
    with pytest.raises(DataError, match="has 3 cells where the header has 2; fix it and start again"):
        predict("input=in.csv", "output=out.csv", "chunk_rows=2")
    Path("in.csv").write_text(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["column=ID"], "its column is '', not 'ID'"),
        (["escape_formulas=true"], "its escape_formulas is 'false', not 'true'"),
        (["encoding=latin-1"], "its encoding is 'utf-8', not 'latin-1'"),
        (["separator=comma"], "its separator is '', not 'comma'"),
        (["format=raft"], "its format is '', not 'raft'"),
    ],
)
def test_a_partial_output_of_other_settings_is_refused(change: list[str], message: str) -> None:
    stopped_at_row(5)
    with pytest.raises(RunError, match=rf"out\.csv\.part belongs to another prediction: {message}"):
        predict("input=in.csv", "output=out.csv", *change)
    predict("input=in.csv", "output=out.csv", "overwrite=true", *change)
    assert [row["ID"] for row in rows_of("out.csv")] == ["0", "1", "2", "3", "4", "5"]


def test_a_partial_output_of_other_rows_is_refused() -> None:
    stopped_at_row(5)
    text = Path("in.csv").read_text()
    Path("in.csv").write_text(text.replace("tweet 1", "TWEET 1"))
    with pytest.raises(RunError, match=r"the rows of in\.csv that it holds have changed\. .*overwrite=true"):
        predict("input=in.csv", "output=out.csv")
    predict("input=in.csv", "output=out.csv", "overwrite=true")
    assert [row["text"][:7] for row in rows_of("out.csv")][1] == "TWEET 1"


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"\xff"])
def test_overwriting_works_whatever_lies_there(note: bytes) -> None:
    table(3)
    Path("out.csv").write_text("old")
    Path("out.csv.part").write_text("somebody's")
    Path("out.csv.part.json").write_bytes(note)
    with pytest.raises(RunError, match=r"overwrite=true"):
        predict("input=in.csv", "output=out.csv")
    predict("input=in.csv", "output=out.csv", "overwrite=true")
    assert len(rows_of("out.csv")) == 3
    assert names() == ["in.csv", "out.csv"]


def test_an_output_in_no_folder_is_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table(3)
    monkeypatch.delattr("softcue.trained.load")
    with pytest.raises(RunError, match=r"gone is not there; create the folder, or choose another output"):
        predict("input=in.csv", "output=gone/out.csv")


@pytest.mark.parametrize("options", [(), ("overwrite=true",)])
def test_an_output_that_is_being_written_is_refused(options: tuple[str, ...]) -> None:
    table(3)
    with (
        PartialOutput(Path("out.csv")).locked(),
        pytest.raises(RunBusyError, match=r"out\.csv is being written by another process"),
    ):
        predict("input=in.csv", "output=out.csv", *options)


def test_a_bad_row_is_skipped_by_name_and_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n{"text": "b", "\\u001b[2Jx": 1}\n{"text": ""}\n', "utf-8")
    predict("input=in.jsonl", "output=out.csv", "on_bad_row=skip")
    assert capsys.readouterr().err.splitlines() == [
        "skipped: in.jsonl line 2 has '\\x1b[2Jx', which is none of the first row's columns",
        "skipped: in.jsonl line 3 has no text in 'text'",
        "out.csv: 1 rows predicted, 2 skipped",
    ]


def test_a_dry_run_writes_nothing_and_tells_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    stopped_at_row(5)
    before = names()
    predict("input=in.csv", "output=out.csv", "dry=true")
    assert capsys.readouterr().err.splitlines() == [
        "run: r, classes long, short",
        "input: in.csv, columns ID, text; reads 'text' as {text}",
        "output: out.csv, columns ID, text, predicted, p(long), p(short)",
        "rows done before: 4",
    ]
    assert names() == before


def test_a_column_is_read_in_place_of_the_templates() -> None:
    Path("in.csv").write_text("body;text\nlong words;x\n", encoding="utf-16")
    predict("input=in.csv", "output=out.jsonl", "column=body", "encoding=utf-16")
    answer = json.loads(Path("out.jsonl").read_text())
    assert [*answer.values()] == ["long words", "x", "long", 1.0, 0.0]


def test_raft_gets_its_submission() -> None:
    path = table(3, path="test_unlabeled.csv")
    path.write_text(f"{path.read_text()}3,\n")
    predict("input=test_unlabeled.csv", "output=out.csv", "format=raft")
    assert Path("out.csv").read_text() == "ID,Label\n0,short\n1,short\n2,short\n3,short\n"
