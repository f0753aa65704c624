"""A sweep as a user starts it, and one of its jobs: found, stopped, killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder

Command = subprocess.Popen[str]
PATIENCE_S = 300.0
SOFTCUE_TRAIN = str(Path(sys.executable).with_name("softcue-train"))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit code, and all it said."""

    code: int
    output: str


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """`softcue-train -m` with these overrides; its runs go below `runs`, its words to `output`."""

    overrides: tuple[str, ...]
    runs: Path
    output: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    def start(self) -> Command:
        """Start the command and leave it running."""
        command = [SOFTCUE_TRAIN, "-m", *self.overrides]
        # What a user's shell has: the number of threads is the launcher's business.
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        with self.output.open("w") as output:
            started = subprocess.Popen(
                [*command, f"paths.runs={self.runs}"],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                env={**inherited, **self.environment},
                cwd=self.output.parent,
            )
        self.commands.append(started)
        return started

    def clear(self) -> None:
        """End what a test that failed has left running."""
        for command in self.commands:
            if command.poll() is None:
                for process in [*psutil.Process(command.pid).children(recursive=True), command]:
                    process.kill()
                command.wait(PATIENCE_S)

    def end(self, process: Command) -> Ended:
        """Wait for the command's end."""
        code = process.wait(PATIENCE_S)
        return Ended(code=code, output=self.output.read_text())

    def folders(self) -> list[RunFolder]:
        """The runs that have a record."""
        return [RunFolder(self.runs, path.parent.name) for path in sorted(self.runs.glob("*/record.json"))]

    def complete(self) -> list[RunFolder]:
        """The runs that need no second start."""
        return [folder for folder in self.folders() if folder.is_complete]

    def training(self) -> list[tuple[RunFolder, psutil.Process]]:
        """The runs that have trained a step and go on, with the process that has each one's log open."""
        logs = {
            str(folder.log_path): folder
            for folder in self.folders()
            if folder.checkpoint_path.exists() and record_of(folder).training is None
        }
        if not logs:
            return []
        found = []
        for process in psutil.process_iter():
            try:
                opened = [file.path for file in process.open_files()]
            except psutil.Error:  # it has ended, or is not ours to look into
                continue
            found += [(logs[path], process) for path in opened if path in logs]
        return found


def record_of(folder: RunFolder) -> RunRecord:
    """The record of a run that has one."""
    record = folder.record()
    assert record is not None
    return record


def wait_for(condition: Callable[[], object], *, command: Command, sweep: Sweep) -> None:
    """Until the condition holds; an AssertionError with the command's words if it ends before or is late."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert command.poll() is None, sweep.output.read_text()
        assert time.monotonic() < deadline, sweep.output.read_text()
        time.sleep(0.02)


def kill_a_job(sweep: Sweep, command: Command, *, killed_first: Sequence[Command] = ()) -> RunFolder:
    """Kill the process of one job in training, once the other three are complete.

    Stopped at once and killed later: so it is cut off in training, however long the others take, and
    a launcher that loses all its workers with one has nothing else to lose.
    """
    wait_for(sweep.training, command=command, sweep=sweep)
    folder, process = sweep.training()[0]
    assert process.pid != command.pid, "the job ran in the command's own process"
    process.suspend()
    wait_for(lambda: len(sweep.complete()) == 3, command=command, sweep=sweep)
    assert record_of(folder).training is None, "it had trained to the end before it was stopped"
    for other in killed_first:
        other.kill()
    process.kill()
    process.wait(PATIENCE_S)
    return folder


def expect_second_start_does_what_is_missing(sweep: Sweep) -> None:
    """A job and the command are killed; the command's second start leaves what was complete untouched."""
    command = sweep.start()
    killed = kill_a_job(sweep, command, killed_first=[command])
    command.wait(PATIENCE_S)
    before = written_at(sweep.complete())
    assert len(before) == 3
    assert record_of(killed).status == "running"

    expect_all_complete(sweep, sweep.start(), killed, before=before)


def expect_same_start_does_what_is_missing(sweep: Sweep) -> None:
    """A job alone is killed; the command notices, and has it go on."""
    command = sweep.start()
    killed = kill_a_job(sweep, command)
    before = written_at(sweep.complete())
    before.pop(killed.path, None)

    expect_all_complete(sweep, command, killed, before=before)


def expect_all_complete(
    sweep: Sweep, command: Command, killed: RunFolder, *, before: Mapping[Path, int]
) -> None:
    """The command ends well, the killed run has gone on from a state it kept, and no other ran again."""
    ended = sweep.end(command)
    assert ended.code == 0, ended.output
    after = written_at(sweep.complete())
    assert len(after) == 4, ended.output
    assert {path: after[path] for path in before} == before
    training = record_of(killed).training
    assert training is not None
    assert training.resumes == 1


def written_at(folders: Iterable[RunFolder]) -> dict[Path, int]:
    """When each record was written last, in nanoseconds."""
    return {folder.path: folder.record_path.stat().st_mtime_ns for folder in folders}


def expect_one_bad_job_stops_no_other(sweep: Sweep) -> None:
    """Of three jobs the one that fails is named, and the others end well."""
    ended = sweep.end(sweep.start())
    assert ended.code == 1, ended.output
    assert "1 of 3 jobs are not complete, the first being job 1" in ended.output
    assert [record_of(folder).status for folder in sweep.folders()].count("failed") == 1
    assert len(sweep.complete()) == 2, ended.output
