"""Every combination of the values that a sweep names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from softcue.sweep.runner import Runner
from softcue.sweep.state import JobState
from softcue.sweep.table import jobs_table, print_table


def combinations(params: Mapping[str, str], arguments: Sequence[str]) -> list[list[str]]:
    """A list of overrides for each job; `arguments` follow `params`, so they take precedence."""
    given = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    parsed = OverridesParser.create().parse_overrides(given)
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return [list(job) for job in jobs]


def run_grid(runner: Runner, params: Mapping[str, str], arguments: Sequence[str]) -> list[JobState]:
    """Run all combinations and print a table of the results.

    Raises:
        SoftcueError: a job is not complete in the end.
    """
    jobs = runner.run(combinations(params, arguments))
    if not runner.dry:
        print_table(jobs_table(jobs, root=runner.root))
        runner.expect_complete(jobs)
    return jobs
