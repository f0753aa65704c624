"""A run while it runs: its log, its clock, its memory, and the record it leaves whatever happens."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import joblib
import torch
from omegaconf import OmegaConf

from softcue.data.datamodule import Part
from softcue.errors import PrunedError, RunError, SoftcueError
from softcue.evaluation.metrics import mean_metrics
from softcue.runs.memory import PeakMemory
from softcue.runs.provenance import git_state, hardware, utc_now, versions
from softcue.runs.record import Failure, Hardware, RunRecord, Status, Times, Training
from softcue.training.learners import Learner
from softcue.training.run import Run

log = logging.getLogger(__name__)


class Session:
    """Opens a run's folder, and closes it with a record that says complete or failed.

    A run that is killed, or stopped by Ctrl-C, leaves a record that says running.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.folder, self.data = run, run.folder, run.data
        self.memory = PeakMemory()
        self.learner: Learner | None = None
        self.failure: Exception | None = None
        self.seconds = {"setup_s": 0.0, "train_s": 0.0, "evaluate_s": 0.0}

    def __enter__(self) -> Self:
        self.folder.create()
        self.log_file = logging.FileHandler(self.folder.log_path)
        self.log_file.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self.log_file)
        self.earlier = self.folder.record()
        self.threads = torch.get_num_threads()
        if self.earlier and (self.folder.checkpoint_path.exists() or self.folder.joint_path.exists()):
            self._compute_like(self.earlier.hardware)
        self.folder.write_config(OmegaConf.to_yaml(self.run.settings))
        self.record = self._first_record()
        self.folder.write_record(self.record)
        log.info("run %s", self.folder.path)
        self.memory.__enter__()
        self.began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.__exit__(kind, error, trace)
        failure = error or self.failure
        if self.learner is not None:
            self.learner.close(failed=failure is not None)
        if failure is None:
            self._close(status="complete")
            log.info("%s is complete", self.folder.path)
        elif isinstance(failure, PrunedError):
            log.info("%s is given up: %s", self.folder.path, failure)
            self._close(status="pruned")
        elif isinstance(failure, Exception):
            # The user's own mistake is a line; anything else keeps its stack trace, in the run's log.
            trace_too = None if isinstance(failure, SoftcueError) else failure
            log.error("%s failed: %s", self.folder.path, failure, exc_info=trace_too)
            self._close(status="failed", error=Failure(type=type(failure).__name__, message=str(failure)))
        logging.getLogger().removeHandler(self.log_file)
        self.log_file.close()
        torch.set_num_threads(self.threads)

    def _compute_like(self, before: Hardware) -> None:
        """A run that goes on needs the threads it had: their number settles the order of sums."""
        if self.run.threads is None and before.threads <= joblib.cpu_count():
            torch.set_num_threads(before.threads)
        here = self._hardware()
        if (here.cpu, here.threads) != (before.cpu, before.threads):
            log.warning(
                "this run began on %s with threads=%d and goes on on %s with threads=%d: its last digits "
                "may not be those of a run in one piece",
                *(before.cpu, before.threads, here.cpu, here.threads),
            )

    def refuse(self, error: Exception) -> None:
        """Leave a record of a run that cannot start."""
        try:
            self.folder.create()
            failure = Failure(type=type(error).__name__, message=str(error))
            self.folder.write_record(replace(self._first_record(), status="failed", error=failure))
        except RunError as unwritable:
            log.warning("%s", unwritable)

    def fail(self, error: Exception) -> None:
        """This run has failed, though others that train with it go on."""
        self.failure = error

    def set_up(self, learner: Learner) -> None:
        """Everything is loaded: note what is about to run."""
        self.learner = learner
        self.seconds["setup_s"] = time.perf_counter() - self.began
        self.record = replace(
            self.record,
            backbone=learner.backbone,
            dtype=learner.dtype,
            engine=learner.engine,
            num_rows={
                part: len(self.data.ids(part)) for part in ("train", "validation", "test", "unlabelled")
            },
            num_cut={str(part): count for part, count in self.data.num_cut.items()},
        )

    def train(self, learner: Learner) -> None:
        """Fit the learner, unless an earlier start has."""
        if not self.restored(learner):
            with self._timing("train_s"):
                training = learner.fit(self.folder.checkpoint_path)
            self.trained(learner, training, seconds=self.seconds["train_s"] + learner.seconds_before)

    def restored(self, learner: Learner) -> bool:
        """Whether an earlier start was cut off while scoring: then the learner is as that had left it."""
        before = self.earlier
        if not (before and before.training and before.times and self.folder.checkpoint_path.exists()):
            return False
        learner.restore(self.folder.checkpoint_path, before.training)
        log.info("trained already: scoring is left")
        self.trained(learner, before.training, seconds=before.times.train_s)
        return True

    def trained(self, learner: Learner, training: Training | None, *, seconds: float) -> None:
        """The learner was fitted, and so long it took; of a pass with others, its share."""
        self.seconds["train_s"] = seconds
        self.record = replace(
            self.record, training=training, parameters=learner.parameters, times=self._times()
        )
        self.folder.write_record(self.record)

    def score(self, learner: Learner, part: Part) -> None:
        """Predict a part's rows, keep them, and keep the metrics if the rows have labels."""
        with self._timing("evaluate_s"):
            predictions = {name: learner.predict(task, part) for name, task in self.data.tasks.items()}
        of_tasks = {}
        for name, rows in predictions.items():
            task = self.data.tasks[name]
            where = part if len(predictions) == 1 else f"{part}_{name}"
            columns = rows.columns(task.task.classes, task.ids(part))
            self.folder.write_predictions(part=where, columns=columns)
            if part != "unlabelled":
                of_tasks[name] = rows.metrics(task.task.classes)
                self._tell(where, of_tasks[name])
        if not of_tasks:
            return
        metrics: dict[str, dict[str, float]] = {part: mean_metrics(list(of_tasks.values()))}
        if len(of_tasks) > 1:
            self._tell(f"{part}, mean of {len(of_tasks)} tasks", metrics[part])
            metrics |= {f"{part}/{name}": of_task for name, of_task in of_tasks.items()}
        learner.log({f"{part}/{name}": value for name, value in metrics[part].items()})
        by_part: dict[str, dict[str, float | None]] = {where: dict(of) for where, of in metrics.items()}
        self.record = replace(self.record, metrics={**self.record.metrics, **by_part})

    def add_unlabelled(self, learner: Learner) -> None:
        """Score the unlabelled rows of a complete run; its record stays complete whatever happens.

        Raises:
            RunError: the trained state is no longer there.
        """
        record = self.folder.record()
        assert record is not None, "the run is complete"
        assert record.times is not None, "the run is complete"
        checkpoint = self.folder.checkpoint_path
        try:
            if record.training is None:
                learner.fit(checkpoint)  # nothing was trained step by step
            elif checkpoint.exists():
                learner.restore(checkpoint, record.training)
            else:
                raise RunError(
                    f"{checkpoint} is gone, so the complete run cannot score its unlabelled rows: use "
                    f"softcue-predict run={self.folder.path}, or delete the folder to train again."
                )
            self.score(learner, "unlabelled")
        finally:
            learner.close(failed=False)
        settings = {**record.settings, "predict_unlabelled": True}
        evaluate_s = record.times.evaluate_s + self.seconds["evaluate_s"]
        times = replace(record.times, evaluate_s=evaluate_s)
        self.folder.write_record(replace(record, settings=settings, times=times))
        log.info("%s is complete, with its unlabelled rows", self.folder.path)

    def _tell(self, what: str, metrics: Mapping[str, float]) -> None:
        log.info("%s: macro-F1 %.3f, accuracy %.3f", what, metrics["macro_f1"], metrics["accuracy"])

    @contextmanager
    def _timing(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    def _close(self, *, status: Status, error: Failure | None = None) -> None:
        gpu = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
        self.record = replace(
            self.record,
            status=status,
            error=error,
            finished_at=utc_now(),
            times=self._times(),
            peak_memory_mb=self.memory.reading(gpu=gpu),
        )
        self.folder.write_record(self.record)

    def _times(self) -> Times:
        return Times(**self.seconds, total_s=time.perf_counter() - self.began)

    def _hardware(self) -> Hardware:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        return hardware(threads=torch.get_num_threads(), gpu=gpu)

    def _first_record(self) -> RunRecord:
        return RunRecord(
            run_id=self.folder.path.name,
            status="running",
            method=self.run.method,
            task=self.data.task_name,
            backbone=self.run.backbone,
            dtype=self.run.dtype,
            seed=self.run.seed,
            data_fingerprint=self.data.fingerprint,
            started_at=utc_now(),
            host=socket.gethostname(),
            hardware=self._hardware(),
            git=git_state(Path(__file__).parent),
            versions=versions(),
            settings=self.run.settings,
        )
