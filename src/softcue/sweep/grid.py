"""Every combination of the values that a sweep names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from softcue.errors import ConfigError
from softcue.sweep.runner import Runner
from softcue.sweep.state import JobState
from softcue.sweep.table import jobs_table, print_table

MAX_JOBS = 100_000
"""More are a mistake: their settings alone take hours to read."""


def combinations(params: Mapping[str, str], arguments: Sequence[str]) -> list[list[str]]:
    """A list of overrides for each job; `arguments` follow `params`, so they take precedence.

    Raises:
        ConfigError: no job, more than MAX_JOBS, or an interval, which has no values to combine.
    """
    given = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    hydra = GlobalHydra.instance()
    loader = hydra.config_loader() if hydra.is_initialized() else None
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(given)
    count = prod(map(_num_values, parsed))
    if count > MAX_JOBS:
        raise ConfigError(f"the sweep has {count:,} jobs; it may have {MAX_JOBS:,}. Name fewer values.")
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    if not jobs:
        raise ConfigError(f"the sweep has no job: a range or glob in {' '.join(given)} has no value.")
    return [list(job) for job in jobs]


def _num_values(override: Override) -> int:
    value = override.value()
    if isinstance(value, IntervalSweep):
        raise ConfigError(
            f"{override.input_line}: an interval is searched, as sweep=search and sweep=equal_budget do; a "
            "sweep of all combinations needs values, as in prompt.learning_rate=0.01,0.1."
        )
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None and value.step:
        return max(ceil((value.stop - value.start) / value.step), 0)
    return 1


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
