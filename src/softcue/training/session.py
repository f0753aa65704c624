"""A run in progress: its log file, its memory, its learner, and a record whatever happens."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

import torch
from omegaconf import OmegaConf

from softcue.cli import PrintableFormatter
from softcue.errors import PrunedError, RunError, SoftcueError, TrainingError, note_log
from softcue.evaluation.scoring import Scoring
from softcue.runs.memory import PeakMemory
from softcue.runs.record import Training
from softcue.runs.symptoms import of_files
from softcue.training.learner import Fitted, Learner
from softcue.training.process import use_earlier_threads
from softcue.training.recorder import Recorder
from softcue.training.run import Run
from softcue.training.scoring import evaluate

log = logging.getLogger(__name__)


class Session:
    """Opens a run's folder, and closes it with a record whose status is complete, failed or pruned.

    The record of a run that is killed, or stopped by Ctrl-C, keeps the status running.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.memory = PeakMemory()
        self.learner: Learner | None = None
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        folder = self.run.folder
        folder.create()
        self.log_file = logging.FileHandler(folder.log_path)
        self.log_file.setFormatter(PrintableFormatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self.log_file)
        earlier = folder.record()
        self.threads = torch.get_num_threads()
        if earlier and (earlier.training or folder.checkpoint_path.exists()):
            use_earlier_threads(earlier.hardware, threads=self.run.threads)
        folder.write_config(OmegaConf.to_yaml(self.run.settings))
        self.recorder = Recorder(self.run)
        self.recorder.start(earlier)
        log.info("run %s", folder.path)
        self.memory.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.memory.__exit__(kind, error, trace)
        failure = self.failure or error
        if self.learner is not None:
            self.learner.close(failed=failure is not None)
        self._record_end(failure)
        logging.getLogger().removeHandler(self.log_file)
        self.log_file.close()
        torch.set_num_threads(self.threads)

    def set_up(self, learner: Learner, scoring: Scoring) -> None:
        """Take the run's learner, once it is loaded; ConfigError if there are no rows to calibrate on."""
        self.learner, self.scoring = learner, scoring
        scoring.expect_rows(self.run.data)
        self.recorder.record_setup(learner)

    def try_restore(self, learner: Learner) -> bool:
        """Restore the trained state if the run was interrupted after training; else return False."""
        training = self.recorder.trained
        if training is None:
            return False
        learner.restore(self.run.folder, training)
        log.info("%s has been trained: only its scores are pending", self.run.folder.path)
        return True

    def record_training(self, learner: Learner, result: Fitted | TrainingError) -> None:
        """Save what was trained and record it; an error makes this run fail, and no other."""
        if isinstance(result, TrainingError):
            self.failure = result
        else:
            learner.save(self.run.folder)
            self.recorder.record_training(learner, result)

    def score(self, learner: Learner) -> None:
        """Predict every part's rows and record the metrics."""
        run = self.run
        with self.recorder.timing("evaluate_s"):
            result = evaluate(learner, run.data, run.folder, parts=run.parts, scoring=self.scoring, known={})
        self.recorder.record_scores(result.metrics, result.calibrations)
        self._warn_of_symptoms()

    def _warn_of_symptoms(self) -> None:
        """Say what looks as if training had failed."""
        path, record = self.run.folder.path, self.recorder.record
        if record.training is None:
            return
        for sign in of_files(path, record):
            if sign.is_found:
                log.warning(
                    "%s: %s. Try %s; softcue-inspect run=%s why=true checks more.",
                    *(sign.name, sign.measured, sign.way_out, path),
                )

    def _record_end(self, failure: BaseException | None) -> None:
        path = self.run.folder.path
        gpu = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
        memory = self.memory.reading(gpu=gpu)
        if failure is None:
            self.recorder.end("complete", memory=memory)
            log.info("%s is complete", path)
        elif isinstance(failure, PrunedError):
            log.info("%s is pruned: %s", path, failure)
            self.recorder.end("pruned", memory=memory)
        elif isinstance(failure, KeyboardInterrupt):
            log.warning("%s is interrupted: it resumes from its last saved state", path)
        elif isinstance(failure, Exception):
            log.error("%s failed: %s", path, failure)
            if not isinstance(failure, SoftcueError):
                # The stack of a bug is in this file alone, and not on the terminal too.
                self.log_file.handle(_stack(failure))
                note_log(failure, self.run.folder.log_path)
            self.recorder.end("failed", memory=memory, error=failure)


def _stack(error: Exception) -> logging.LogRecord:
    trace = (type(error), error, error.__traceback__)
    return log.makeRecord(log.name, logging.ERROR, __file__, 0, "the stack of this error:", (), trace)


def add_parts(run: Run, learner: Learner, scoring: Scoring) -> None:
    """Score further parts of a complete run; its record stays complete whatever happens.

    Raises:
        RunError: the trained prompt is missing or cannot be read.
    """
    record = run.folder.record()
    assert record is not None
    assert record.times is not None, "the run is complete"
    began = time.perf_counter()
    parts = [part for part in run.asked if not record.has_scored(part)]
    try:
        _restore_complete(run, learner, record.training)
        result = evaluate(
            learner, run.data, run.folder, parts=parts, scoring=scoring, known=record.calibrations
        )
    finally:
        learner.close(failed=False)
    times = replace(record.times, evaluate_s=record.times.evaluate_s + time.perf_counter() - began)
    settings = {**record.settings, **{f"predict_{part}": True for part in parts}}
    scored = {part: dict[str, float | None](values) for part, values in result.metrics.items()}
    metrics = {**record.metrics, **scored}
    run.folder.write_record(replace(record, metrics=metrics, settings=settings, times=times))
    log.info("%s is complete, with its %s rows", run.folder.path, " and ".join(parts))


def _restore_complete(run: Run, learner: Learner, training: Training | None) -> None:
    if training is None:
        type(learner).fit([learner], run.folder.checkpoint_path)  # nothing trains step by step
    elif run.folder.has_trained:
        learner.restore(run.folder, training)
    else:
        raise RunError(
            f"{run.folder.prompt_path} is missing, so this complete run cannot score more rows: "
            f"delete {run.folder.path} to train again."
        )
