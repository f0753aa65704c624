"""Runs the jobs of a sweep that are left, whatever becomes of one of them, and says what came of all."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins import basic_launcher
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from softcue.errors import SoftcueError
from softcue.sweep.jobs import Job, Jobs
from softcue.sweep.plan import PLAN, Plan, PlannedJob, write_plan
from softcue.sweep.table import jobs_table, show, time_left

POLL_S = 2.0
"""Seconds between two looks at jobs that another process runs."""
TRIES = 3
"""How often a job is started that ends without a word, as one does whose process is killed."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs lists of overrides as jobs, by the launcher that the command chose.

    What a job is and whether it ended well, records say. So a job that is complete is skipped, one that
    was cut off goes on, one that another process has is left to it, and a launcher that dies with a job
    is asked again for the others.
    """

    jobs: Jobs
    launcher: Launcher
    root: Path
    dry: bool
    max_batch_size: int | None
    planned: list[Job] = field(default_factory=list)

    @classmethod
    def of(cls, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Runner:
        """With what Hydra gives a sweeper."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        return cls(
            jobs=Jobs(hydra_context.config_loader, config),
            launcher=launcher,
            root=Path(config.paths.runs),
            dry=bool(config.dry),
            max_batch_size=config.hydra.sweeper.max_batch_size,
        )

    def run(self, overrides: Sequence[Sequence[str]], words: Sequence[str] | None = None) -> list[Job]:
        """Run what is left of the jobs; all of them, whatever became of them. A dry run only shows them.

        `words` say what sets each apart; by default the overrides that not all share.

        Raises:
            ConfigError: a job that cannot be composed or contradicts itself, before any was started.
        """
        jobs = self.jobs.from_overrides(overrides, words)
        left = [job for job in jobs if not job.is_complete]
        self.jobs.validate(left)
        show(jobs_table(jobs, root=self.root) if self.dry else "")
        show(f"{len(jobs) - len(left)} of {len(jobs)} jobs are complete{time_left(left, self.root)}")
        if self.dry or not left:
            return jobs
        self._write_plan(jobs)
        earlier = {job.number: job.records() for job in left}
        starts: Counter[int] = Counter()
        while left:
            free = [job for job in left if not job.is_busy]
            for batch in self._batches(free):
                starts.update(job.number for job in batch)
                self._launch(batch)
            if not free:
                show(f"waiting for {len(left)} jobs that other processes run")
                time.sleep(POLL_S)
            # An error is final for this command; who was cut off, and all he took along, may try again.
            left = [
                job
                for job in left
                if not job.is_complete
                and starts[job.number]
                < (1 if job.has_ended and job.records() != earlier[job.number] else TRIES)
            ]
        return jobs

    def expect_complete(self, jobs: Sequence[Job]) -> None:
        """Raise SoftcueError if a job is not complete, naming the first."""
        missing = [job for job in jobs if not job.is_complete]
        if missing:
            raise SoftcueError(
                f"{len(missing)} of {len(jobs)} jobs are not complete, the first being job "
                f"{missing[0].number} ({missing[0].label}); the same command runs them again."
            )

    def _batches(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """What the launcher is given at once: in this process one job, for others as many as they take."""
        # Looked up now: Hydra's search for plugins makes the class anew.
        if isinstance(self.launcher, basic_launcher.BasicLauncher):
            # Those that another process has taken or ended meanwhile are left to it.
            yield from ([job] for job in jobs if not job.is_busy and not job.is_complete)
        else:
            size = self.max_batch_size or len(jobs)
            yield from (list(jobs[at : at + size]) for at in range(0, len(jobs), size))

    def _launch(self, jobs: Sequence[Job]) -> None:
        if len(jobs) == 1:
            show(f"job {jobs[0].number}: {jobs[0].label}")
        try:
            self.launcher.launch([job.overrides for job in jobs], jobs[0].number)
        except Exception as error:  # noqa: BLE001 - of any launcher's library; the records say what was done
            show(f"the launcher ended early: {type(error).__name__}: {error}")

    def _write_plan(self, jobs: Sequence[Job]) -> None:
        """Who watches the sweep reads here what belongs to it."""
        self.planned.extend(jobs)
        planned = (
            PlannedJob(words=job.label, runs=tuple(folder.path.name for folder in job.folders))
            for job in self.planned
        )
        self.root.mkdir(parents=True, exist_ok=True)
        write_plan(self.root / PLAN, Plan(jobs=tuple(planned), command=tuple(sys.argv[1:])))
