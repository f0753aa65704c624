"""Run folders: their files, and the records of many."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from softcue.errors import RunError
from softcue.runs.record import Failure, RunRecord
from softcue.runs.store import RunFolder, list_records


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs", "prompt_tuning-0123456789ab")
    folder.create()
    return folder


def test_a_new_folder_has_no_record_and_is_not_complete(folder: RunFolder) -> None:
    assert folder.record() is None
    assert not folder.is_complete


def test_a_record_is_read_back_from_its_folder(folder: RunFolder, record: RunRecord) -> None:
    folder.write_record(record)
    assert folder.record() == record
    assert folder.is_complete


def test_a_running_or_failed_run_is_not_complete(folder: RunFolder, record: RunRecord) -> None:
    folder.write_record(replace(record, status="running"))
    assert not folder.is_complete
    failure = Failure(type="TrainingError", message="loss is nan at step 3")
    folder.write_record(replace(record, status="failed", error=failure))
    assert not folder.is_complete


def test_predictions_are_read_back_with_their_types(folder: RunFolder) -> None:
    columns: dict[str, list[object]] = {
        "row": [3, 7],
        "text": ["late", "thanks"],
        "target": [1, None],
        "p_1": [0.75, 0.25],
    }
    folder.write_predictions(part="test", columns=columns)
    assert pq.read_table(folder.predictions_path("test")).to_pydict() == columns


def test_a_folder_holds_what_was_written_and_nothing_else(folder: RunFolder, record: RunRecord) -> None:
    folder.write_config("seed: 1\n")
    folder.write_predictions(part="validation", columns={"row": [0]})
    folder.write_record(record)
    names = {path.name for path in folder.path.iterdir()}
    assert names == {"config.yaml", "predictions_validation.parquet", "record.json"}
    assert (folder.path / "config.yaml").read_text() == "seed: 1\n"


def test_columns_that_cannot_be_written_leave_no_predictions(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="length"):
        folder.write_predictions(part="test", columns={"row": [0, 1], "target": [1]})
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("where", ["a file", "the kernel's"])
def test_an_unwritable_place_is_named_with_the_way_out(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / "file" if where == "a file" else Path("/proc/softcue")
    with pytest.raises(RunError, match=rf"{root}/run-1 cannot be written.*paths\.runs=/another/folder"):
        RunFolder(root, "run-1").create()


def test_a_corrupt_record_is_named_with_what_to_do(folder: RunFolder) -> None:
    folder.record_path.write_text('{"run_id": ')
    with pytest.raises(RunError, match=rf"{folder.record_path} cannot be read .* Delete {folder.path} "):
        folder.record()


def test_a_corrupt_record_hides_no_other(tmp_path: Path, record: RunRecord) -> None:
    for name in ("a", "b", "c"):
        folder = RunFolder(tmp_path, name)
        folder.create()
        folder.write_record(replace(record, run_id=name))
    RunFolder(tmp_path, "b").record_path.write_text("")
    listing = list_records(tmp_path)
    assert [found.run_id for found in listing.records] == ["a", "c"]
    assert [str(tmp_path / "b" / "record.json") in str(problem) for problem in listing.problems] == [True]


def test_folders_without_a_record_are_skipped(tmp_path: Path, record: RunRecord) -> None:
    (tmp_path / "multirun").mkdir()
    (tmp_path / "notes.txt").touch()
    RunFolder(tmp_path, "a").create()
    RunFolder(tmp_path, "a").write_record(record)
    listing = list_records(tmp_path)
    assert listing.records == (record,)
    assert listing.problems == ()


def test_a_root_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    assert list_records(tmp_path / "none").records == ()


def test_a_thousand_records_are_listed_in_under_two_seconds_of_processor_time(
    tmp_path: Path, record: RunRecord
) -> None:
    settings = {f"group_{i}": {f"setting_{j}": j / 7 for j in range(10)} for i in range(15)}
    for seed in range(1000):
        run = tmp_path / f"run-{seed:04d}"
        run.mkdir()
        (run / "record.json").write_text(replace(record, seed=seed, settings=settings).to_json())
    start = time.process_time()
    listing = list_records(tmp_path)
    assert time.process_time() - start < 2.0
    assert [found.seed for found in listing.records] == list(range(1000))
