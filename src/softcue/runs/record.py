"""The record of a run: everything that a later comparison needs, in one JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from softcue.errors import RunError

SCHEMA_VERSION = 1

Status = Literal["running", "complete", "failed", "pruned"]


def _time_of_day(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError(f"{text!r} lacks its time zone")
    return text


Time = Annotated[str, AfterValidator(_time_of_day)]
"""ISO 8601 with a time zone."""


class _Strict:
    """Refuse unknown fields and convert no types."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True)
class Failure(_Strict):
    """The exception that ended a run."""

    type: str
    message: str

    @property
    def line(self) -> str:
        """Type and message on one line."""
        return f"{self.type}: {' '.join(self.message.split())}"


@dataclass(frozen=True, kw_only=True)
class Parameters(_Strict):
    """Counts of numbers: trained, in the shipped prompt, and in total with the backbone."""

    trainable: int
    shipped: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Training(_Strict):
    """How far training went, and the checkpoint that was kept.

    `joint` is the number of prompts that trained in the same pass; the time recorded is one prompt's share.
    `resumes` is how often training was interrupted and resumed.
    """

    steps: int
    epochs: int
    monitor: str | None
    best_value: float | None
    best_step: int | None
    joint: int = 1
    resumes: int = 0


@dataclass(frozen=True, kw_only=True)
class Calibration(_Strict):
    """A change of class probabilities p: they become proportional to p^scale exp(bias) of each class.

    `rows` says on which rows it was chosen.
    """

    method: str
    scale: list[float]
    bias: list[float]
    rows: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class Times(_Strict):
    """Wall-clock seconds: load and tokenise; train with its validations; score the parts; in total."""

    setup_s: float
    train_s: float
    evaluate_s: float
    total_s: float


@dataclass(frozen=True, kw_only=True)
class PeakMemoryMb(_Strict):
    """Highest resident memory of the process, its rise during the run, and the GPU's highest.

    In units of 10^6 bytes; `gpu` is None without a GPU.
    """

    process: float
    above_start: float
    gpu: float | None


@dataclass(frozen=True, kw_only=True)
class Git(_Strict):
    """The source tree: its commit, and whether files differed from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True, kw_only=True)
class Hardware(_Strict):
    """The machine; `memory_gb` in units of 10^9 bytes, `threads` as torch uses them."""

    cpu: str
    cores: int
    memory_gb: float
    gpu: str | None
    threads: int


@dataclass(frozen=True, kw_only=True)
class RunRecord(_Strict):
    """One run. Fields with a default are filled in while it runs.

    The keys of `metrics`, `num_rows` and `num_cut` are parts ("train", "validation", "test"); `metrics` has
    those that were scored, and a metric without a finite value is None. In `num_cut`, "train/target" counts
    texts to write. `calibrations` are by task. Where a run has several scorings, the others' parts and tasks
    are followed by their names: "test@batch". `settings` is the resolved config. A baseline without a
    language model has no `backbone`, `dtype` or `engine` (what ran the model). Times of day are ISO 8601 in
    UTC.
    """

    run_id: str
    status: Status
    method: str
    task: str
    backbone: str | None
    dtype: str | None
    seed: int
    data_fingerprint: str
    started_at: Time
    finished_at: Time | None = None
    error: Failure | None = None
    engine: str | None = None
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
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

    def metric(self, part: str, name: str) -> float | None:
        """A metric on a part; None if it was not computed or is not finite."""
        return self.metrics.get(part, {}).get(name)

    def has_scored(self, part: str) -> bool:
        """Whether a part that is scored on request has been, as far as it has rows."""
        if part in self.metrics or not self.num_rows.get(part):
            return True
        return bool(self.settings.get(f"predict_{part}"))

    def to_json(self) -> str:
        """The record as indented JSON; NaN and infinities, which JSON lacks, become null."""
        # Records without calibrations stay as earlier versions wrote and read them.
        absent = None if self.calibrations else {"calibrations"}
        return _ADAPTER.dump_json(self, indent=2, exclude=absent).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> RunRecord:
        """Read what `to_json` wrote.

        Raises:
            RunError: the text is anything else.
        """
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
