"""How the jobs of a sweep stand, as their folder tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.runs.record import RunRecord
from softcue.sweep.curve import TAIL_BYTES, last_point
from softcue.sweep.state import SweepFolder
from tests.watch.conftest import Folder


def _states(folder: Folder) -> list[str]:
    return [job.state for job in SweepFolder(folder.root).look().jobs]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with every record that is read."""
    counted: list[None] = []
    read = RunRecord.from_json

    def count(text: str | bytes) -> RunRecord:
        counted.append(None)
        return read(text)

    monkeypatch.setattr(RunRecord, "from_json", count)
    return counted


def test_a_job_stands_as_its_record_and_its_lock_say(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1", "tfidf-2", "tfidf-3", "tfidf-4", "tfidf-5")
    folder.add("tfidf-0")
    folder.fail("tfidf-1", "the loss is nan")
    folder.add("tfidf-3", status="running")
    folder.add("tfidf-5", status="pruned")
    folder.add("another-0", status="running")
    with folder.running("tfidf-2"):
        assert _states(folder) == ["complete", "failed", "running", "cut off", "left", "pruned"]
    assert _states(folder)[2] == "cut off"


def test_packed_runs_are_one_job(folder: Folder) -> None:
    folder.plan(["p-0", "p-1"], ["p-2", "p-3"], ["p-4", "p-5"], ["p-6", "p-7"])
    folder.add("p-0")
    folder.add("p-1")
    folder.add("p-2")
    folder.fail("p-3", "the loss is nan")
    folder.add("p-4")
    folder.add("p-6")
    with folder.running("p-7"):
        assert _states(folder) == ["complete", "failed", "left", "running"]


def test_a_job_that_is_planned_twice_counts_once(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1", "tfidf-0", words=["trial=0", "trial=1", "trial=2"])
    jobs = SweepFolder(folder.root).look().jobs
    assert [job.job.words for job in jobs] == ["trial=0", "trial=1"]


def test_a_corrupt_record_is_its_jobs_failure_and_no_other_ones(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    folder.add("tfidf-0")
    folder.add("tfidf-1")
    (folder.root / "tfidf-0" / "record.json").write_text("{")
    broken, whole = SweepFolder(folder.root).look().jobs
    assert (broken.state, whole.state) == ("failed", "complete")
    assert broken.error.startswith("unreadable record: not a run record: JSONDecodeError")


def test_without_a_plan_every_record_is_a_job(folder: Folder) -> None:
    folder.add("tfidf-0")
    folder.add("tfidf-1", status="running")
    look = SweepFolder(folder.root).look()
    assert [job.state for job in look.jobs] == ["complete", "cut off"]
    assert look.note == "no sweep.json here: how many jobs there are is not known"


@pytest.mark.parametrize("text", ["{", '{"jobs": 1, "command": []}', "[]"])
def test_a_plan_that_cannot_be_read_is_said_and_hides_no_record(folder: Folder, text: str) -> None:
    folder.add("tfidf-0")
    (folder.root / "sweep.json").write_text(text)
    look = SweepFolder(folder.root).look()
    assert look.note is not None
    assert look.note.startswith("sweep.json cannot be read")
    assert len(look.jobs) == 1


def test_an_empty_folder_has_not_ended(folder: Folder) -> None:
    look = SweepFolder(folder.root).look()
    assert (look.jobs, look.has_ended) == ((), False)


def test_it_has_ended_once_every_job_is_complete_or_failed(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    sweep = SweepFolder(folder.root)
    folder.add("tfidf-0")
    assert not sweep.look().has_ended
    folder.fail("tfidf-1", "the loss is nan")
    assert sweep.look().has_ended


def test_of_a_thousand_records_only_changed_and_running_ones_are_read_again(
    folder: Folder, reads: list[None]
) -> None:
    names = [f"tfidf-{number}" for number in range(1000)]
    folder.plan(*names)
    for name in names[:-1]:
        folder.add(name)
    with folder.running(names[-1]):
        sweep = SweepFolder(folder.root)
        assert len(sweep.look().records) == 1000
        assert len(reads) == 1000
        folder.add(names[0], macro_f1=0.9)
        assert sweep.look().records[0].metrics["test"]["macro_f1"] == 0.9
        assert len(reads) == 1002


def test_a_run_that_was_cut_off_is_asked_for_its_lock_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("softcue.sweep.state._is_busy", lambda run: asked.append(run.path.name))
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    sweep = SweepFolder(folder.root)
    for _ in range(3):
        assert sweep.look().jobs[0].state == "cut off"
    assert asked == ["tfidf-0"]


def test_a_run_that_ends_while_it_is_looked_at_is_complete(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(_: object) -> bool:
        folder.add("tfidf-0")
        return False

    monkeypatch.setattr("softcue.sweep.state._is_busy", end)
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    assert _states(folder) == ["complete"]


def test_where_no_lock_can_be_had_the_record_is_believed(folder: Folder) -> None:
    folder.plan("tfidf-0")
    folder.add("tfidf-0", status="running")
    (folder.root / "tfidf-0" / "run.lock").mkdir()
    assert _states(folder) == ["running"]


def test_a_curves_end_is_its_last_whole_line_and_its_last_loss(tmp_path: Path) -> None:
    curve = tmp_path / "metrics.csv"
    curve.write_text(
        "epoch,step,train/loss,train/loss_step,validation/macro_f1\n0,6,,0.75,\n1,7,,,0.5\n1,8,0.3"
    )
    point = last_point(curve)
    assert point is not None
    assert (point.epoch, point.step, point.loss) == (1, 7, 0.75)


def test_of_a_long_curve_the_end_is_read_alone(tmp_path: Path) -> None:
    curve = tmp_path / "metrics.csv"
    rows = "".join(f"{step // 10},{step},{step / 8}\n" for step in range(TAIL_BYTES))
    curve.write_text(f"epoch,step,train/loss_step\n{rows}")
    point = last_point(curve)
    assert point is not None
    assert (point.step, point.loss) == (TAIL_BYTES - 1, (TAIL_BYTES - 1) / 8)


@pytest.mark.parametrize("text", [None, "", "epoch,step\n", "epoch,st"])
def test_a_curve_without_a_row_has_no_end(tmp_path: Path, text: str | None) -> None:
    curve = tmp_path / "metrics.csv"
    if text is not None:
        curve.write_text(text)
    assert last_point(curve) is None
