"""A sweep's folder → how each of its jobs stands, looked at often and read where it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softcue.errors import RunError
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD, RunFolder
from softcue.sweep.plan import PLAN, Plan, PlannedJob, read_plan

ENDED = ("complete", "failed", "pruned")
STATES = (*ENDED, "running", "cut off", "left")
"""As a record says; cut off: the record says running and no process does; left: there is no record."""


@dataclass(frozen=True, kw_only=True)
class RunNow:
    """A run's state and its record; `problem` is set instead of the record if that cannot be read.

    `stamp` is the record's time of writing, in nanoseconds, and its inode.
    """

    state: str
    record: RunRecord | None = None
    problem: str | None = None
    stamp: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class JobNow:
    """A planned job and its runs as they stand."""

    job: PlannedJob
    runs: tuple[RunNow, ...]

    @property
    def state(self) -> str:
        """Of several runs, which one process trains together, what tells most about it."""
        states = {run.state for run in self.runs}
        for state in ("running", "failed", "cut off", "left", "pruned"):
            if state in states:
                return state
        return "complete"

    @property
    def records(self) -> list[RunRecord]:
        """What its runs have left so far."""
        return [run.record for run in self.runs if run.record is not None]

    @property
    def error(self) -> str:
        """The first failure's line, or why a record cannot be read; empty if nothing went wrong."""
        for run in self.runs:
            if run.problem is not None:
                return run.problem
            if run.record is not None and run.record.error is not None:
                return f"{run.record.error.type}: {' '.join(run.record.error.message.split())}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything at one time; `note` says what is missing, and then the jobs are the runs that are there.

    `changed` is when plan or records were last written, in seconds since 1970.
    """

    root: Path
    command: tuple[str, ...]
    jobs: tuple[JobNow, ...]
    note: str | None
    changed: float

    @property
    def has_ended(self) -> bool:
        """Whether every job came to an end, well or not."""
        return bool(self.jobs) and all(job.state in ENDED for job in self.jobs)

    @property
    def records(self) -> list[RunRecord]:
        """All that can be read."""
        return [record for job in self.jobs for record in job.records]


class SweepFolder:
    """The folder, and what the last look at it found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs: dict[str, RunNow] = {}

    def look(self) -> Look:
        """How all jobs stand now; a plan or record that cannot be read is said and hides nothing else."""
        note = None
        try:
            plan = read_plan(self.root / PLAN)
        except RunError as error:
            plan, note = None, str(error)
        if plan is None:
            note = note or f"no {PLAN} here: how many jobs there are is not known"
            plan = Plan(jobs=self._found(), command=())
        jobs = tuple(JobNow(job=job, runs=tuple(map(self._run, job.runs))) for job in plan.jobs)
        return Look(root=self.root, command=plan.command, jobs=jobs, note=note, changed=self._changed(jobs))

    def _found(self) -> tuple[PlannedJob, ...]:
        """A job for each record that is there."""
        names = sorted(path.parent.name for path in self.root.glob(f"*/{RECORD}"))
        return tuple(PlannedJob(words=name, runs=(name,)) for name in names)

    def _run(self, run_id: str) -> RunNow:
        folder = RunFolder(self.root, run_id)
        try:
            stat = folder.record_path.stat()
        except FileNotFoundError:
            return RunNow(state="left")
        except OSError as error:
            return RunNow(state="failed", problem=f"unreadable record: {error.strerror}")
        stamp = (stat.st_mtime_ns, stat.st_ino)
        known = self._runs.get(run_id)
        # What was cut off is asked for its lock once and no more: to ask is to hold it for a moment, in
        # which a process that comes to go on with the run would be turned away.
        if known is None or known.stamp != stamp or known.state == "running":
            known = self._runs[run_id] = _read(folder, stamp)
        return known

    def _changed(self, jobs: Sequence[JobNow]) -> float:
        plan = self.root / PLAN
        records = [run.stamp[0] / 1e9 for job in jobs for run in job.runs]
        return max([plan.stat().st_mtime if plan.exists() else 0.0, *records])


def _read(folder: RunFolder, stamp: tuple[int, int]) -> RunNow:
    try:
        record = folder.record()
        if record is not None and record.status == "running" and not _is_busy(folder):
            # Read again, as it may have ended between the two looks.
            record = folder.record()
            if record is not None and record.status == "running":
                return RunNow(state="cut off", record=record, stamp=stamp)
    except RunError as error:
        return RunNow(state="failed", problem=f"unreadable record: {error.__cause__}", stamp=stamp)
    return RunNow(state="left" if record is None else record.status, record=record, stamp=stamp)


def _is_busy(folder: RunFolder) -> bool:
    try:
        return folder.is_busy
    except OSError:
        # A folder that we may read and not write: the record's word is all there is.
        return True
