"""The record of a run, written at each step from its start to its end."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from softcue.errors import RunBusyError, RunError
from softcue.runs.provenance import git_state, hardware, utc_now, versions
from softcue.runs.record import (
    Calibration,
    Failure,
    Hardware,
    PeakMemoryMb,
    RunRecord,
    Status,
    Times,
    Training,
)

if TYPE_CHECKING:
    from softcue.training.learner import Fitted, Learner
    from softcue.training.run import Run

log = logging.getLogger(__name__)


class Recorder:
    """Writes a run's record and measures its times.

    A run that was interrupted after its training keeps the earlier record's result of that.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.seconds = {"setup_s": 0.0, "train_s": 0.0, "evaluate_s": 0.0}
        self.began = time.perf_counter()
        self.record = self._first_record()

    def start(self, earlier: RunRecord | None) -> None:
        """Write the first record, with the status "running"; `earlier` is that of an earlier start."""
        if earlier and earlier.training and earlier.times and self.run.folder.has_trained:
            self.record = replace(
                self.record, training=earlier.training, parameters=earlier.parameters, times=earlier.times
            )
            self.seconds["train_s"] = earlier.times.train_s
        self._write()

    @property
    def trained(self) -> Training | None:
        """The result of training; None before it."""
        return self.record.training

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add the block's time to one of the record's times."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def record_setup(self, learner: Learner) -> None:
        """Record what is about to run, once everything is loaded."""
        self.seconds["setup_s"] = time.perf_counter() - self.began
        data = self.run.data
        self.record = replace(
            self.record,
            backbone=learner.backbone,
            dtype=learner.dtype,
            engine=learner.engine,
            num_rows={str(part): count for part, count in data.num_rows.items()},
            num_cut={
                **{str(part): count for part, count in data.num_cut.items()},
                **{f"{part}/target": count for part, count in data.num_cut_targets.items()},
            },
        )

    def record_training(self, learner: Learner, fitted: Fitted) -> None:
        """Record the result of training, and the run's share of its time."""
        self.seconds["train_s"] = fitted.seconds
        self.record = replace(
            self.record, training=fitted.training, parameters=learner.parameters, times=self._times()
        )
        self._write()

    def record_scores(
        self, metrics: Mapping[str, Mapping[str, float]], calibrations: Mapping[str, Calibration]
    ) -> None:
        """Record metrics by part and calibrations by task; the next write keeps them."""
        self.record = replace(
            self.record,
            metrics={part: dict(of) for part, of in metrics.items()},
            calibrations=dict(calibrations),
        )

    def record_refusal(self, error: Exception) -> None:
        """Write the record of a run that cannot start; one that has trained, or runs now, keeps its own."""
        folder = self.run.folder
        try:
            with folder.lock(wait_s=0):
                earlier = folder.record()
                if earlier is not None and (earlier.training or earlier.metrics):
                    return
                self.record = replace(self.record, status="failed", error=_failure(error))
                self._write()
        except RunBusyError:
            return
        except RunError as unwritable:
            log.warning("%s", unwritable)

    def end(self, status: Status, *, memory: PeakMemoryMb, error: Exception | None = None) -> None:
        """Write the last record."""
        self.record = replace(
            self.record,
            status=status,
            error=_failure(error) if error else None,
            finished_at=utc_now(),
            times=self._times(),
            peak_memory_mb=memory,
        )
        self._write()

    def _write(self) -> None:
        self.run.folder.write_record(self.record)

    def _times(self) -> Times:
        return Times(**self.seconds, total_s=time.perf_counter() - self.began)

    def _first_record(self) -> RunRecord:
        run = self.run
        return RunRecord(
            run_id=run.folder.path.name,
            status="running",
            method=run.method,
            task=run.data.task_name,
            backbone=run.backbone,
            dtype=run.dtype,
            seed=run.seed,
            data_fingerprint=run.data.fingerprint,
            started_at=utc_now(),
            host=socket.gethostname(),
            hardware=this_hardware(),
            git=git_state(Path(__file__).parent),
            versions=versions(),
            settings=run.settings,
        )


def _failure(error: Exception) -> Failure:
    return Failure(type=type(error).__name__, message=str(error))


def this_hardware() -> Hardware:
    """This machine, with the threads and the GPU that torch uses."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return hardware(threads=torch.get_num_threads(), gpu=gpu)
