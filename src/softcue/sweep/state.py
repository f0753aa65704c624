"""The state of a sweep's jobs, read from run records and locks; the runner, tables and live view use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from softcue.errors import RunError
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD, RunFolder
from softcue.sweep.plan import PLAN, Plan, PlannedJob, read_plan

State = Literal["complete", "failed", "pruned", "running", "interrupted", "pending"]
ENDED: tuple[State, ...] = ("complete", "failed", "pruned")
STATES: tuple[State, ...] = (*ENDED, "running", "interrupted", "pending")
"""A record gives the state, except: interrupted is a record that says running while no process holds the
run's lock, and pending is no record at all."""
JOB_STATES: tuple[State, ...] = ("running", "interrupted", "failed", "pending", "pruned", "complete")
"""A job of several runs has the first of these that one of its runs has."""


@dataclass(frozen=True, kw_only=True)
class RunState:
    """A run's state and its record; `problem` says why the record cannot be read, if so.

    `stamp` is the record's modification time in nanoseconds and its inode.
    """

    folder: RunFolder = field(compare=False)
    state: State
    record: RunRecord | None = None
    problem: str | None = None
    stamp: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class JobState:
    """A job's label and the states of its runs."""

    label: str
    runs: tuple[RunState, ...]

    @property
    def state(self) -> State:
        """The state of all runs together."""
        states = {run.state for run in self.runs}
        return next(state for state in JOB_STATES if state in states)

    @property
    def has_ended(self) -> bool:
        """Whether the job is complete, failed or pruned."""
        return self.state in ENDED

    @property
    def records(self) -> list[RunRecord]:
        """The records that can be read."""
        return [run.record for run in self.runs if run.record is not None]

    @property
    def error(self) -> str:
        """The first run's error or unreadable record on one line; empty if there is none."""
        for run in self.runs:
            if run.problem is not None:
                return run.problem
            if run.record is not None and run.record.error is not None:
                return run.record.error.line
        return ""

    @property
    def first_run_id(self) -> str:
        """The id of the first run."""
        return self.runs[0].folder.path.name


@dataclass(frozen=True, kw_only=True)
class SweepSnapshot:
    """The states of all jobs at one time.

    `note` says why the plan is missing, if so; every record is then a job of its own. `changed` is when plan
    or records were last written, in seconds since 1970.
    """

    root: Path
    command: tuple[str, ...]
    jobs: tuple[JobState, ...]
    note: str | None
    changed: float

    @property
    def remaining(self) -> list[JobState]:
        """The jobs that have not ended."""
        return [job for job in self.jobs if not job.has_ended]

    @property
    def has_ended(self) -> bool:
        """Whether there are jobs and all have ended."""
        return bool(self.jobs) and not self.remaining

    @property
    def records(self) -> list[RunRecord]:
        """The records of all jobs."""
        return [record for job in self.jobs for record in job.records]


class SweepFolder:
    """Reads the states of runs; a record is parsed again only after it has changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs: dict[Path, RunState] = {}

    def snapshot(self) -> SweepSnapshot:
        """The current states of the planned jobs; a file that cannot be read hides no other."""
        note = None
        try:
            plan = read_plan(self.root / PLAN)
        except RunError as error:
            plan, note = None, str(error)
        if plan is None:
            note = note or f"no {PLAN} in this folder: the number of jobs is not known"
            found = (PlannedJob(label=run.path.name, runs=(run.path.name,)) for run in self._folders())
            plan = Plan(jobs=tuple(found), command=())
        jobs = tuple(
            self.job(job.label, [RunFolder(self.root, run) for run in job.runs]) for job in plan.jobs
        )
        return SweepSnapshot(
            root=self.root, command=plan.command, jobs=jobs, note=note, changed=self._changed(jobs)
        )

    def records(self) -> list[RunRecord]:
        """Every record in the folder that can be read, planned or not."""
        found = map(self.run, self._folders())
        return [run.record for run in found if run.record is not None]

    def job(self, label: str, folders: Iterable[RunFolder], *, asked: Sequence[str] = ()) -> JobState:
        """The current state of a job with these runs.

        A complete run that has not scored the parts that are asked for is pending.
        """
        runs = map(self.run, folders)
        return JobState(label=label, runs=tuple(_with(asked, run) for run in runs))

    def run(self, folder: RunFolder) -> RunState:
        """The current state of a run."""
        try:
            stat = folder.record_path.stat()
        except FileNotFoundError:
            return RunState(folder=folder, state="pending")
        except OSError as error:
            return RunState(folder=folder, state="failed", problem=f"unreadable record: {error.strerror}")
        stamp = (stat.st_mtime_ns, stat.st_ino)
        known = self._runs.get(folder.path)
        # An interrupted run's lock is tested once, not at every look: testing holds the lock for a moment,
        # in which a process that resumes the run would be refused.
        if known is None or known.stamp != stamp or known.state == "running":
            known = self._runs[folder.path] = _read(folder, stamp)
        return known

    def _folders(self) -> list[RunFolder]:
        return [RunFolder(self.root, path.parent.name) for path in sorted(self.root.glob(f"*/{RECORD}"))]

    def _changed(self, jobs: Sequence[JobState]) -> float:
        plan = self.root / PLAN
        records = [run.stamp[0] / 1e9 for job in jobs for run in job.runs]
        return max([plan.stat().st_mtime if plan.exists() else 0.0, *records])


def _read(folder: RunFolder, stamp: tuple[int, int]) -> RunState:
    try:
        record = folder.record()
        if record is not None and record.status == "running" and not _is_busy(folder):
            # Read again: the run may have ended since the first reading.
            record = folder.record()
            if record is not None and record.status == "running":
                return RunState(folder=folder, state="interrupted", record=record, stamp=stamp)
    except RunError as error:
        problem = f"unreadable record: {error.__cause__}"
        return RunState(folder=folder, state="failed", problem=problem, stamp=stamp)
    state = "pending" if record is None else record.status
    return RunState(folder=folder, state=state, record=record, stamp=stamp)


def _with(asked: Sequence[str], run: RunState) -> RunState:
    if asked and run.state == "complete" and not run.folder.is_complete_with(asked):
        return replace(run, state="pending")
    return run


def _is_busy(folder: RunFolder) -> bool:
    try:
        return folder.is_busy
    except OSError:
        # The folder is not writable for us, so the record is all we know.
        return True
