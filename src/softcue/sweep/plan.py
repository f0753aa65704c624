"""The plan of a sweep, kept in `sweep.json` beside its runs: its command and its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from softcue.errors import RunError
from softcue.runs.atomic import write_atomic

PLAN = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """A job's label, unique in the sweep, and the ids of its run or of its jointly trained runs."""

    label: str
    runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The command's arguments, and every job once."""

    jobs: tuple[PlannedJob, ...]
    command: tuple[str, ...]


def read_plan(path: Path) -> Plan | None:
    """The plan; None if there is none, RunError if it cannot be read.

    Jobs with the same runs are one, as when a search proposes the same values twice.
    """
    try:
        plan = _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RunError(
            f"{path.name} cannot be read: start the sweep's command again to rewrite it."
        ) from error
    jobs: dict[tuple[str, ...], PlannedJob] = {}
    for job in plan.jobs:
        jobs.setdefault(job.runs, job)
    return Plan(jobs=tuple(jobs.values()), command=plan.command)


def write_plan(path: Path, plan: Plan) -> None:
    """Write the plan, replacing an earlier one."""
    write_atomic(path, _ADAPTER.dump_json(plan, indent=1))


_ADAPTER = TypeAdapter(Plan)
