"""What a run says about itself: everything that a later comparison needs, as one JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from softcue.errors import RunError

SCHEMA_VERSION = 1

Status = Literal["running", "complete", "failed", "pruned"]


class _Strict:
    """No unknown field, no converted type: a record that is not exactly ours is refused."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Failure(_Strict):
    """The exception that ended a run."""

    type: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Parameters(_Strict):
    """Counts of numbers: trained, left in the shipped prompt, and in all with the backbone."""

    trainable: int
    shipped: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Training(_Strict):
    """How far training went, and the checkpoint that was kept.

    `joint` counts the prompts that trained in the same pass; a run's share of its time is recorded.
    `resumes` counts how often training was cut off and went on.
    """

    steps: int
    epochs: int
    monitor: str | None
    best_value: float | None
    best_step: int | None
    joint: int = 1
    resumes: int = 0


@dataclass(frozen=True, kw_only=True)
class Times(_Strict):
    """Wall-clock seconds: load and tokenise; train with its validations; score the parts; all."""

    setup_s: float
    train_s: float
    evaluate_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True)
class PeakMemoryMb(_Strict):
    """Highest resident memory of the process, how much of it came during the run, and the GPU's.

    In units of 10^6 bytes; `gpu` is None where there is none.
    """

    process: float
    above_start: float
    gpu: float | None


@dataclass(frozen=True, kw_only=True)
class Git(_Strict):
    """The source tree that ran: its commit, and whether files differed from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True)
class Hardware(_Strict):
    """The machine; `memory_gb` in units of 10^9 bytes, `threads` as torch used them."""

    cpu: str
    cores: int
    memory_gb: float
    gpu: str | None
    threads: int


@dataclass(frozen=True, kw_only=True)
class RunRecord(_Strict):
    """One run. Fields with a default are those that a run learns only on its way.

    `metrics`, `num_rows` and `num_cut` go by part ("train", "validation", "test"); a metric that
    has no finite value is None. `settings` is the resolved config. A baseline without a language
    model has no `backbone`, `dtype` or `engine` (which ran the model). Times of day are ISO 8601 in UTC.
    """

    run_id: str
    status: Status
    method: str
    task: str
    backbone: str | None
    dtype: str | None
    seed: int
    data_fingerprint: str
    started_at: str
    finished_at: str | None = None
    error: Failure | None = None
    engine: str | None = None
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    num_rows: dict[str, int] = field(default_factory=dict)
    num_cut: dict[str, int] = field(default_factory=dict)
    parameters: Parameters | None = None
    training: Training | None = None
    times: Times | None = None
    peak_memory_mb: PeakMemoryMb | None = None
    host: str
    hardware: Hardware
    git: Git | None
    versions: dict[str, str]
    settings: dict[str, Any]
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The record as indented JSON; NaN and infinities become null, which every reader knows."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> RunRecord:
        """Read what `to_json` wrote; RunError for anything else."""
        try:
            schema = json.loads(text)["schema_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"not a run record: {type(error).__name__} {error}") from error
        if schema != SCHEMA_VERSION:
            raise RunError(
                f"a run record of schema {schema!r}, and this softcue reads schema {SCHEMA_VERSION}: "
                "use the softcue version that wrote it"
            )
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise RunError(f"not a run record: {where}: {first['msg']}") from error


_ADAPTER = TypeAdapter(RunRecord)
