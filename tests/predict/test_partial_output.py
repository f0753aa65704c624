"""One process at a time writes an output, and what lies there is trusted only if it fits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from softcue.data.rows import ReadPosition
from softcue.errors import RunBusyError, RunError
from softcue.predict.output import PartialOutput, Progress

JOB = {"run": "r", "column": ""}
START = ReadPosition(rows=0, digest="start")
MIDDLE = ReadPosition(rows=2, digest="middle")


def begun(path: Path, *, job: Mapping[str, str] = JOB) -> PartialOutput:
    """An output of which a stopped process wrote eleven bytes."""
    partial = PartialOutput(path)
    with partial.locked(), partial.opened(job, None, START):
        partial.write(b"header\n")
        partial.write(b"row\n")
        partial.save(MIDDLE, skipped=1)
    return partial


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    progress = begun(tmp_path / "out.csv").progress(JOB)
    assert progress is not None
    assert (progress.read, progress.written, progress.skipped) == (MIDDLE, 11, 1)


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    assert PartialOutput(tmp_path / "out.csv").progress(JOB) is None


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    code = f"""
        import sys
        from pathlib import Path
        from softcue.data.rows import ReadPosition
        from softcue.predict.output import PartialOutput
        partial = PartialOutput(Path({str(tmp_path / "out.csv")!r}))
        with partial.locked(), partial.opened({{}}, None, ReadPosition(rows=0, digest="")):
            print("locked", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"locked\n"
        partial = PartialOutput(tmp_path / "out.csv")
        message = rf"out\.csv is being written by another process \(process {first.pid} on .*\)\. Wait for it"
        with pytest.raises(RunBusyError, match=message), partial.locked():
            pytest.fail("two processes have one output")
        # The lock is the operating system's: no end of a process leaves it behind.
        first.send_signal(signal.SIGKILL)
        first.wait()
        with partial.locked():
            pass


def test_the_lock_leaves_no_file_behind(tmp_path: Path) -> None:
    with PartialOutput(tmp_path / "out.csv").locked():
        assert names(tmp_path) == ["out.csv.part.lock"]
    assert names(tmp_path) == []


DAMAGE: dict[str, Any] = {
    "empty": b"",
    "no JSON": b"{",
    "another kind of JSON": b"[1]",
    "binary": b"\xff\xfe\x00",
    "no job": {"job": None},
    "no read": {"read": None},
    "a negative length": {"written": -1},
    "a text for a length": {"written": "many"},
    "a longer output": {"written": 10**9},
    "a shorter output": {"written": 3},
    "another digest": {"digest": "0" * 32},
    "a job without its run": {"job": {}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_note_that_does_not_fit_is_refused_and_can_be_overwritten(tmp_path: Path, damage: Any) -> None:
    partial = begun(tmp_path / "out.csv")
    content = {**json.loads(partial.note.read_bytes()), **damage} if isinstance(damage, dict) else damage
    partial.note.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(RunError, match=r"out\.csv\.part belongs to another prediction: .*overwrite=true"):
        partial.progress(JOB)
    with partial.locked(), partial.opened(JOB, None, START):
        partial.write(b"other\n")
        partial.save(MIDDLE, skipped=0)
        partial.finish()
    assert (tmp_path / "out.csv").read_bytes() == b"other\n"
    assert names(tmp_path) == ["out.csv"]


def test_a_changed_or_shortened_partial_output_is_refused(tmp_path: Path) -> None:
    partial = begun(tmp_path / "out.csv")
    for content in (b"header\nrox\n", b"header\n"):
        partial.part.write_bytes(content)
        with pytest.raises(RunError, match=r"it is not what out\.csv\.part\.json describes"):
            partial.progress(JOB)


def test_a_partial_output_without_a_note_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "out.csv.part").write_bytes(b"precious")
    with pytest.raises(RunError, match=r"out\.csv\.part\.json is missing or damaged"):
        PartialOutput(tmp_path / "out.csv").progress(JOB)


def test_an_output_of_the_same_name_as_a_renamed_one_is_not_taken_for_it(tmp_path: Path) -> None:
    partial = begun(tmp_path / "out.csv")
    partial.part.unlink()
    partial.path.write_bytes(b"precious")
    assert partial.is_renamed
    with pytest.raises(RunError, match=r"out\.csv belongs to another prediction"):
        partial.progress(JOB)


def test_a_note_names_its_last_writer(tmp_path: Path) -> None:
    noted = Progress(**{**json.loads(begun(tmp_path / "out.csv").note.read_bytes()), "read": MIDDLE})
    assert noted.writer.startswith(f"process {os.getpid()} on ")
