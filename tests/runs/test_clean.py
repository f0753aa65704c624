"""Failed runs are removed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from softcue.runs.clean import remove_failed
from softcue.runs.record import Failure, RunRecord, Status
from softcue.runs.store import RunFolder

EXAMPLE = RunRecord.from_json((Path(__file__).parent / "record_v1.json").read_text())


def leave(root: Path, name: str, status: Status) -> RunFolder:
    folder = RunFolder(root, name)
    folder.create()
    error = Failure(type="TrainingError", message="the loss is nan") if status == "failed" else None
    folder.write_record(replace(EXAMPLE, run_id=name, status=status, error=error))
    return folder


def test_failed_runs_alone_are_removed_and_one_that_is_held_stays(tmp_path: Path) -> None:
    failed, held = leave(tmp_path, "failed", "failed"), leave(tmp_path, "held", "failed")
    others = [leave(tmp_path, status, status) for status in ("complete", "running", "pruned")]
    (tmp_path / "notes").mkdir()
    with held.lock(wait_s=0):
        assert remove_failed([tmp_path]) == [failed.path]
    assert {path.name for path in tmp_path.iterdir()} == {
        "held",
        "notes",
        *(folder.path.name for folder in others),
    }
