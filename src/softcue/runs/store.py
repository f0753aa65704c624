"""The folder of a run, named by what determines its result, and the records of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from softcue.errors import RunBusyError, RunError
from softcue.runs.atomic import atomic_path, unwritable, write_atomic
from softcue.runs.record import RunRecord

RECORD = "record.json"


class RunFolder:
    """The files of one run under `root`; `create` makes the folder."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.path = root / run_id

    @property
    def record_path(self) -> Path:
        """The run's record."""
        return self.path / RECORD

    @property
    def prompt_path(self) -> Path:
        """The trained prompt."""
        return self.path / "prompt.safetensors"

    @property
    def has_trained(self) -> bool:
        """Whether the result of training is there: a prompt, or the weights of an adapter."""
        return self.prompt_path.exists() or (self.path / "adapter_model.safetensors").exists()

    @property
    def checkpoint_path(self) -> Path:
        """The state from which an interrupted run resumes."""
        return self.path / "last.ckpt"

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.path / "run.log"

    def predictions_path(self, part: str) -> Path:
        """The predictions for the rows of one part."""
        return self.path / f"predictions_{part}.parquet"

    @contextmanager
    def lock(self, *, wait_s: float) -> Iterator[None]:
        """Hold the run's lock while the block runs, so that no other process runs it.

        The operating system releases the lock when the process ends, however it ends. `is_busy` holds it
        briefly, so a process that starts the run waits longer than that.

        Raises:
            RunBusyError: another process has held the lock for `wait_s` seconds.
        """
        self.create()
        held = FileLock(self.path / "run.lock")
        try:
            held.acquire(timeout=wait_s)
        except Timeout as error:
            raise RunBusyError(
                f"{self.path} is being run by another process: wait for it, or start the same command again "
                "later."
            ) from error
        try:
            yield
        finally:
            held.release()

    @property
    def is_busy(self) -> bool:
        """Whether a process holds the lock now."""
        if not self.path.exists():
            return False
        try:
            with self.lock(wait_s=0):
                return False
        except RunBusyError:
            return True

    def create(self) -> None:
        """Make the folder; RunError if that is impossible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def record(self) -> RunRecord | None:
        """The run's record, None before the first is written; RunError if it cannot be read."""
        return _read(self.record_path) if self.record_path.exists() else None

    @property
    def is_complete(self) -> bool:
        """Whether the run is complete, so that nothing remains to do."""
        record = self.record()
        return record is not None and record.status == "complete"

    def is_complete_with(self, asked: Iterable[str]) -> bool:
        """Whether the run is complete and has scored the parts that are asked for."""
        record = self.record()
        if record is None or record.status != "complete":
            return False
        return all(record.has_scored(part) for part in asked)

    def write_record(self, record: RunRecord) -> None:
        """Write the record, replacing an earlier one."""
        write_atomic(self.record_path, record.to_json())

    def write_config(self, yaml_text: str) -> None:
        """Write the resolved config as YAML."""
        write_atomic(self.path / "config.yaml", yaml_text)

    def write_predictions(self, *, part: str, columns: Mapping[str, Sequence[object]]) -> None:
        """Write the predictions for a part, from columns of equal length."""
        table = pa.table({name: list(values) for name, values in columns.items()})
        with atomic_path(self.predictions_path(part)) as temporary:
            pq.write_table(table, temporary)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The records under a folder, the folder of each, and one error for each that cannot be read."""

    records: tuple[RunRecord, ...]
    folders: tuple[Path, ...]
    problems: tuple[RunError, ...]


def list_records(root: Path) -> Listing:
    """Read every `*/record.json` under `root`, in the order of the folders' names.

    A record that cannot be read becomes a problem and hides no other. Folders without a record are
    skipped, and a root that does not exist has none.
    """
    return read_records(sorted(root.glob(f"*/{RECORD}")))


def read_records(paths: Iterable[Path]) -> Listing:
    """Read records; one that cannot be read becomes a problem and hides no other."""
    records, folders, problems = [], [], []
    for path in paths:
        try:
            records.append(_read(path))
            folders.append(path.parent)
        except RunError as problem:
            problems.append(problem)
    return Listing(records=tuple(records), folders=tuple(folders), problems=tuple(problems))


def _read(path: Path) -> RunRecord:
    try:
        return RunRecord.from_json(path.read_bytes())
    except (OSError, RunError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Delete {path.parent} and start the command again to "
            "repeat the run."
        ) from error
