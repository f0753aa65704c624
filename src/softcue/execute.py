"""Runs from their settings to their records: one run, or several that train jointly."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from softcue.build.checks import expect_joint
from softcue.build.evaluation import build_scoring
from softcue.build.learners import build_learners
from softcue.build.prompted import build_prompted_backbone
from softcue.errors import PrunedError, TrainingError
from softcue.plan import prepare, should_run
from softcue.runs.store import RunFolder
from softcue.training.run import Run

# Imported where they are used: torch and Lightning take seconds, and a complete or dry run needs neither.
if TYPE_CHECKING:
    from softcue.training.learner import Learner
    from softcue.training.session import Session

log = logging.getLogger(__name__)

LOCK_S = 1.0
"""Seconds to wait for a lock, which another process may hold only to check it."""


def train(config: DictConfig) -> list[RunFolder]:
    """Train, score and record the run of a config, or all runs that it trains jointly; return their folders.

    Complete runs are skipped, interrupted ones resume.

    Raises:
        RunBusyError: another process runs one of them now.
        TrainingError: runs that diverged, once all others are complete.
    """
    runs = list({run.folder.path: run for run in prepare(config)}.values())
    if len(runs) > 1:
        expect_joint(runs[0].config)
    if runs[0].show:
        _show(runs[0])
    elif pending := [run for run in runs if should_run(run)]:
        from softcue.training.process import is_first_process, prepare_process

        prepare_process(seed=pending[0].seed, threads=pending[0].threads)
        if is_first_process():
            _run_locked(pending)
        else:
            _train_share(pending)
    return [run.folder for run in runs]


def _show(run: Run) -> None:
    from softcue.inspect.row import show

    show(*build_prompted_backbone(run.config, run.data), run.data)


def _run_locked(runs: Sequence[Run]) -> None:
    from softcue.training.session import add_parts

    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.folder.lock(wait_s=LOCK_S))
        # While this process waited, another may have completed a run.
        pending = [run for run in runs if should_run(run)]
        for run in pending:
            if run.folder.is_complete:
                add_parts(run, build_learners([run])[0], build_scoring(run.config))
        incomplete = [run for run in pending if not run.folder.is_complete]
        if incomplete:
            with suppress(PrunedError):
                _train_and_score(incomplete)


def _train_and_score(runs: Sequence[Run]) -> None:
    from softcue.training.session import Session

    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(run)) for run in runs]
        pairs = list(zip(sessions, build_learners(runs), strict=True))
        for session, learner in pairs:
            session.set_up(learner, build_scoring(session.run.config))
        _fit([(session, learner) for session, learner in pairs if not session.try_restore(learner)])
        for session, learner in pairs:
            if session.failure is None:
                if len(pairs) > 1:
                    log.info("results of %s, seed %d:", session.run.folder.path, session.run.seed)
                session.score(learner)
    failures = [f"{one.run.folder.path}: {one.failure}" for one in sessions if one.failure is not None]
    if failures:
        raise TrainingError("; ".join(failures))


def _fit(pairs: Sequence[tuple[Session, Learner]]) -> None:
    """Train all in one pass, whose state is in the first run's folder until the results are recorded."""
    if not pairs:
        return
    learners = [learner for _, learner in pairs]
    checkpoint = pairs[0][0].run.folder.checkpoint_path
    results = type(learners[0]).fit(learners, checkpoint)
    for (session, learner), result in zip(pairs, results, strict=True):
        session.record_training(learner, result)
    checkpoint.unlink(missing_ok=True)


def _train_share(runs: Sequence[Run]) -> None:
    """In a further process of a distributed run: train its share, which the first process records."""
    learners = build_learners(runs)
    (result,) = type(learners[0]).fit(learners, runs[0].folder.checkpoint_path)
    if isinstance(result, TrainingError):
        raise result
