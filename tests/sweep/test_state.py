"""The states of a sweep's jobs, read from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.runs.record import RunRecord
from softcue.sweep.curve import TAIL_BYTES, Point, last_point
from softcue.sweep.state import SweepFolder
from tests.sweep.folder import Folder


def _states(folder: Folder) -> list[str]:
    return [job.state for job in SweepFolder(folder.root).snapshot().jobs]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows by one with every record that is parsed."""
    counted: list[None] = []
    read = RunRecord.from_json

    def count(text: str | bytes) -> RunRecord:
        counted.append(None)
        return read(text)

    monkeypatch.setattr(RunRecord, "from_json", count)
    return counted


def test_a_jobs_state_follows_from_its_record_and_its_lock(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1", "tfidf-2", "tfidf-3", "tfidf-4", "tfidf-5")
    folder.add("tfidf-0")
    folder.fail("tfidf-1", "the loss is nan")
    folder.add("tfidf-3", status="running")
    folder.add("tfidf-5", status="pruned")
    folder.add("another-0", status="running")
    with folder.running("tfidf-2"):
        assert _states(folder) == ["complete", "failed", "running", "interrupted", "pending", "pruned"]
    assert _states(folder)[2] == "interrupted"


def test_jointly_trained_runs_are_one_job(folder: Folder) -> None:
    folder.plan(["p-0", "p-1"], ["p-2", "p-3"], ["p-4", "p-5"], ["p-6", "p-7"], ["p-8", "p-9"])
    folder.add("p-0")
    folder.add("p-1")
    folder.add("p-2")
    folder.fail("p-3", "the loss is nan")
    folder.add("p-4")
    folder.add("p-6")
    folder.fail("p-8", "the loss is nan")
    folder.add("p-9", status="running")
    with folder.running("p-7"):
        assert _states(folder) == ["complete", "failed", "pending", "running", "interrupted"]


def test_a_job_whose_first_run_was_refused_has_failed(folder: Folder) -> None:
    folder.plan(["p-0", "p-1"])
    folder.fail("p-0", "split.num_train is 99999")
    assert _states(folder) == ["failed"]


def test_a_job_that_is_planned_twice_counts_once(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1", "tfidf-0", labels=["trial=0", "trial=1", "trial=2"])
    jobs = SweepFolder(folder.root).snapshot().jobs
    assert [job.label for job in jobs] == ["trial=0", "trial=1"]


def test_an_unreadable_record_fails_its_own_job_alone(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    folder.add("tfidf-0")
    folder.add("tfidf-1")
    (folder.root / "tfidf-0" / "record.json").write_text("{")
    broken, whole = SweepFolder(folder.root).snapshot().jobs
    assert (broken.state, whole.state) == ("failed", "complete")
    assert broken.error.startswith("unreadable record: not a run record: JSONDecodeError")


def test_without_a_plan_every_record_is_a_job(folder: Folder) -> None:
    folder.add("tfidf-0")
    folder.add("tfidf-1", status="running")
    snapshot = SweepFolder(folder.root).snapshot()
    assert [job.state for job in snapshot.jobs] == ["complete", "interrupted"]
    assert snapshot.note == "no sweep.json in this folder: the number of jobs is not known"


@pytest.mark.parametrize("text", ["{", '{"jobs": 1, "command": []}', "[]"])
def test_an_unreadable_plan_is_noted_and_hides_no_record(folder: Folder, text: str) -> None:
    folder.add("tfidf-0")
    (folder.root / "sweep.json").write_text(text)
    snapshot = SweepFolder(folder.root).snapshot()
    assert snapshot.note is not None
    assert snapshot.note.startswith("sweep.json cannot be read")
    assert len(snapshot.jobs) == 1


def test_an_empty_folder_has_not_ended(folder: Folder) -> None:
    snapshot = SweepFolder(folder.root).snapshot()
    assert (snapshot.jobs, snapshot.has_ended) == ((), False)


def test_a_sweep_has_ended_once_every_job_is_complete_or_failed(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    sweep = SweepFolder(folder.root)
    folder.add("tfidf-0")
    assert not sweep.snapshot().has_ended
    folder.fail("tfidf-1", "the loss is nan")
    assert sweep.snapshot().has_ended


def test_of_a_thousand_records_only_changed_and_running_ones_are_parsed_again(
    folder: Folder, reads: list[None]
) -> None:
    names = [f"tfidf-{number}" for number in range(1000)]
    folder.plan(*names)
    for name in names[:-1]:
        folder.add(name)
    with folder.running(names[-1]):
        sweep = SweepFolder(folder.root)
        assert len(sweep.snapshot().records) == 1000
        assert len(reads) == 1000
        folder.add(names[0], macro_f1=0.9)
        assert sweep.snapshot().records[0].metrics["test"]["macro_f1"] == 0.9
        assert len(reads) == 1002


def test_the_lock_of_an_interrupted_run_is_tested_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested = []
    monkeypatch.setattr("softcue.sweep.state._is_busy", lambda run: tested.append(run.path.name))
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    sweep = SweepFolder(folder.root)
    for _ in range(3):
        assert sweep.snapshot().jobs[0].state == "interrupted"
    assert tested == ["tfidf-0"]


def test_a_run_that_ends_while_its_state_is_read_is_complete(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: object) -> bool:
        folder.add("tfidf-0")
        return False

    monkeypatch.setattr("softcue.sweep.state._is_busy", end)
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    assert _states(folder) == ["complete"]


def test_without_access_to_the_lock_the_record_decides(folder: Folder) -> None:
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    (folder.root / "tfidf-0" / "run.lock").mkdir()
    assert _states(folder) == ["running"]


def test_the_last_point_is_the_last_complete_line_with_the_last_loss(tmp_path: Path) -> None:
    curve = tmp_path / "metrics.csv"
    curve.write_text(
        "epoch,step,train/loss,train/loss_step,validation/macro_f1\n0,6,,0.75,\n1,7,,,0.5\n1,8,0.3"
    )
    point = last_point(curve)
    assert (point.epoch, point.step, point.loss) == (1, 7, 0.75)


def test_only_the_end_of_a_long_curve_is_read(tmp_path: Path) -> None:
    curve = tmp_path / "metrics.csv"
    rows = "".join(f"{step // 10},{step},{step / 8}\n" for step in range(TAIL_BYTES))
    curve.write_text(f"epoch,step,train/loss_step\n{rows}")
    point = last_point(curve)
    assert (point.step, point.loss) == (TAIL_BYTES - 1, (TAIL_BYTES - 1) / 8)


@pytest.mark.parametrize("text", [None, "", "epoch,step\n", "epoch,st"])
def test_a_curve_without_a_row_has_an_empty_point(tmp_path: Path, text: str | None) -> None:
    curve = tmp_path / "metrics.csv"
    if text is not None:
        curve.write_text(text)
    assert last_point(curve) == Point()
