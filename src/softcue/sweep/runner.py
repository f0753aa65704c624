"""Runs the pending jobs of a sweep; a job that fails does not stop the others."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hydra._internal.core_plugins import basic_launcher
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from softcue.cli import say
from softcue.errors import SoftcueError
from softcue.sweep.jobs import Job, Jobs
from softcue.sweep.plan import PLAN, Plan, PlannedJob, write_plan
from softcue.sweep.state import JobState, SweepFolder
from softcue.sweep.summary import time_left
from softcue.sweep.table import jobs_table, print_table

POLL_S = 2.0
"""Seconds between two looks at jobs that another process runs."""
MAX_ATTEMPTS = 3
"""How often a job is started that ends without a result, as when its process is killed."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs lists of overrides as jobs, with the launcher that the command chose.

    Job states are read from records and locks. Complete jobs are skipped, interrupted ones resumed, those
    that another process runs are waited for, and a launcher that fails is started again for the others.
    """

    jobs: Jobs
    launcher: Launcher
    folder: SweepFolder
    dry: bool
    max_batch_size: int | None
    planned: list[Job] = field(default_factory=list)

    @classmethod
    def from_hydra(
        cls, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> Runner:
        """Make a runner from what Hydra gives a sweeper."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        return cls(
            jobs=Jobs(hydra_context.config_loader, config),
            launcher=launcher,
            folder=SweepFolder(Path(config.paths.runs)),
            dry=bool(config.dry),
            max_batch_size=config.hydra.sweeper.max_batch_size,
        )

    @property
    def root(self) -> Path:
        """The folder of the runs."""
        return self.folder.root

    def run(self, overrides: Sequence[Sequence[str]], labels: Sequence[str] | None = None) -> list[JobState]:
        """Run the jobs that are not complete, and return the states of all; a dry run only prints them.

        `labels` name the jobs; by default each job's label is its overrides that not all jobs share.

        Raises:
            ConfigError: a job cannot be composed or its settings contradict each other; none was started.
        """
        jobs = self.jobs.from_overrides(overrides, labels)
        before = [self._state(job) for job in jobs]
        pending = [job for job in jobs if before[job.number].state != "complete"]
        self.jobs.validate(pending)
        if self.dry:
            print_table(jobs_table(before, root=self.root))
        say(f"{len(jobs) - len(pending)} of {len(jobs)} jobs are complete{self._estimate(before)}")
        if self.dry or not pending:
            return before
        self._write_plan(jobs)
        attempts: Counter[int] = Counter()
        while pending:
            free = [job for job in pending if self._state(job).state != "running"]
            for batch in self._batches(free):
                attempts.update(job.number for job in batch)
                if len(batch) == 1:
                    say(f"job {batch[0].number + 1} of {len(jobs)}{self._left(jobs)}: {batch[0].label}")
                self._launch(batch)
            if not free:
                say(f"waiting for {len(pending)} jobs that other processes run")
                time.sleep(POLL_S)
            pending = [
                job for job in pending if self._may_start(job, before[job.number], attempts[job.number])
            ]
        return [self._state(job) for job in jobs]

    def expect_complete(self, jobs: Sequence[JobState]) -> None:
        """Raise SoftcueError if a job is not complete, naming the first."""
        missing = [(number, job) for number, job in enumerate(jobs) if job.state != "complete"]
        if missing:
            number, job = missing[0]
            raise SoftcueError(
                f"{len(missing)} of {len(jobs)} jobs are not complete, the first being job {number} "
                f"({job.label}); the same command runs them again."
            )

    def _state(self, job: Job) -> JobState:
        return self.folder.job(job.label, job.folders, asked=job.asked)

    def _may_start(self, job: Job, before: JobState, attempts: int) -> bool:
        """Whether a job can still become complete.

        An error that it recorded since `before` is final, as is a record that cannot be read.
        """
        state = self._state(job)
        is_new = state != before or any(run.problem is not None for run in state.runs)
        if state.state == "complete" or (state.has_ended and attempts > 0 and is_new):
            return False
        return attempts < MAX_ATTEMPTS

    def _estimate(self, jobs: Sequence[JobState]) -> str:
        """How many jobs are to run, and how long they take one after another."""
        to_run = [job for job in jobs if job.state != "complete"]
        if not to_run:
            return ""
        time = time_left(to_run, self.folder.records(), now=datetime.now(UTC)).text
        known = f"{time} one after another" if time else "and no complete run shows how long they take"
        return f"; {len(to_run)} to run, {known}"

    def _left(self, jobs: Sequence[Job]) -> str:
        """How long the jobs that are not complete take, if a complete run shows it."""
        states = [state for state in map(self._state, jobs) if state.state != "complete"]
        time = time_left(states, self.folder.records(), now=datetime.now(UTC)).text
        return f", {time} left" if time else ""

    def _batches(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Jobs that the launcher is given together: one in this process, else up to `max_batch_size`."""
        # Looked up now: Hydra's search for plugins creates the class again.
        if isinstance(self.launcher, basic_launcher.BasicLauncher):
            # Another process may have started or completed a job since.
            yield from ([job] for job in jobs if self._state(job).state not in ("running", "complete"))
        else:
            size = self.max_batch_size or len(jobs)
            yield from (list(jobs[at : at + size]) for at in range(0, len(jobs), size))

    def _launch(self, jobs: Sequence[Job]) -> None:
        try:
            self.launcher.launch([job.overrides for job in jobs], jobs[0].number)
        except Exception as error:  # noqa: BLE001 - any launcher's library; the records hold what was done
            say(f"the launcher failed: {type(error).__name__}: {error}")

    def _write_plan(self, jobs: Sequence[Job]) -> None:
        """Write the jobs so far to `sweep.json`, for the live view."""
        self.planned.extend(jobs)
        planned = (
            PlannedJob(label=job.label, runs=tuple(folder.path.name for folder in job.folders))
            for job in self.planned
        )
        self.root.mkdir(parents=True, exist_ok=True)
        write_plan(self.root / PLAN, Plan(jobs=tuple(planned), command=tuple(sys.argv[1:])))
