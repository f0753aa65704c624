"""softcue-train: one run, from a config to a record. Also `python -m softcue.train`."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import hydra
import joblib
import torch
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig

from softcue.build import (
    build_joint_trainer,
    build_learner,
    build_prompt_learner,
    build_prompted_backbone,
    expect_one_process,
)
from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.configs.compose import expect_command_read
from softcue.errors import PrunedError, TrainingError
from softcue.inspect.row import show
from softcue.plan import prepare, should_run
from softcue.runs.store import RunFolder
from softcue.training.learners import Learner, PromptLearner, fit_jointly, last_states
from softcue.training.run import Run
from softcue.training.session import Session

log = logging.getLogger(__name__)

LOCK_S = 1.0
"""Seconds to wait for a run that another process may only be looking at."""


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="train")
@run_app
def main(settings: DictConfig) -> None:
    """The Hydra app."""
    expect_command_read(settings)
    if any(settings.joint.values()):
        train_jointly(settings)
    else:
        train(settings)


def train(settings: DictConfig) -> RunFolder:
    """Train a prompt, score it, leave a record; a complete run is not run again, one cut off goes on.

    Raises:
        RunBusyError: another process runs it now.
    """
    (run,) = prepare(settings)
    if run.show:
        show(*build_prompted_backbone(run.config, run.data), run.data)
    elif vars(rank_zero_only)["rank"] > 0:
        # A further process of a distributed run trains its share; the first one records and scores.
        _start(run)
        build_learner(run.config, run.data).fit(run.folder.checkpoint_path)
    elif should_run(run):
        with run.folder.lock(wait_s=LOCK_S):
            # Another process may have run it since.
            if should_run(run):
                with suppress(PrunedError):
                    _run(run)
    return run.folder


def _run(run: Run) -> None:
    _start(run)
    if run.folder.is_complete:
        Session(run).add_unlabelled(build_learner(run.config, run.data))
        return
    with Session(run) as session:
        learner = build_learner(run.config, run.data)
        session.set_up(learner)
        session.train(learner)
        _score_and_ship(session, learner)


def train_jointly(settings: DictConfig) -> list[RunFolder]:
    """Train several runs in one pass; each leaves the record it would have left alone.

    A pass that was cut off goes on, as do runs that were cut off while they were scored after it.

    Raises:
        TrainingError: runs that diverged, once all others are complete.
    """
    runs = prepare(settings)
    expect_one_process(settings)
    for run in runs:
        if run.folder.is_complete and should_run(run):
            with run.folder.lock(wait_s=LOCK_S):
                _run(run)
    left = [run for run in runs if should_run(run)]
    if not left:
        return [run.folder for run in runs]
    _start(left[0])
    failures = []
    with ExitStack() as stack:
        for run in left:
            stack.enter_context(run.folder.lock(wait_s=LOCK_S))
        sessions = [stack.enter_context(Session(run)) for run in left]
        learners = [build_prompt_learner(run.config, run.data) for run in left]
        pairs = list(zip(sessions, learners, strict=True))
        for session, learner in pairs:
            session.set_up(learner)
        pack = [(session, learner) for session, learner in pairs if not session.restored(learner)]
        for session, outcome in _train_pack(pack):
            session.fail(outcome)
            failures.append(f"{session.folder.path}: {outcome}")
        for session, learner in pairs:
            if session.failure is None:
                _score_and_ship(session, learner)
    if failures:
        raise TrainingError("; ".join(failures))
    return [run.folder for run in runs]


def _train_pack(pack: Sequence[tuple[Session, PromptLearner]]) -> list[tuple[Session, TrainingError]]:
    """Train them in one pass, and note it in each one's record; which have diverged."""
    if not pack:
        return []
    folders = [session.folder for session, _ in pack]
    trainer = build_joint_trainer(pack[0][0].run.config, folders[0].joint_path)
    began = time.perf_counter()
    outcomes = fit_jointly([learner for _, learner in pack], folders, trainer)
    seconds = time.perf_counter() - began + sum(state.seconds_before for state in last_states(trainer))
    diverged = []
    for (session, learner), outcome in zip(pack, outcomes, strict=True):
        if isinstance(outcome, TrainingError):
            diverged.append((session, outcome))
        else:
            session.trained(learner, outcome, seconds=seconds / len(pack))
    folders[0].joint_path.unlink(missing_ok=True)
    return diverged


def _start(run: Run) -> None:
    _quiet()
    use_threads(run.threads)
    seed_everything(run.seed, workers=True, verbose=False)


def _score_and_ship(session: Session, learner: Learner) -> None:
    for part in session.run.parts:
        session.score(learner, part)
    learner.ship(session.folder)


def use_threads(count: int | None) -> None:
    """Give torch this many threads; None: the physical cores that affinity and cgroup quota leave us."""
    if count is None and "OMP_NUM_THREADS" in os.environ:
        return
    # torch counts the machine's cores, and in a container with a share of them starts too many threads.
    torch.set_num_threads(count or joblib.cpu_count(only_physical_cores=True))


def _quiet() -> None:
    """Leave out what libraries warn of and we mean."""
    for message in (
        # Rows are ids already: a worker process would cost more than it loads.
        ".*does not have many workers.*",
        # The run's folder holds its log and record before training starts.
        ".*exists and is not empty.*",
        # No validation rows is a choice; the few-shot default.
        "Total length of `list` across ranks is zero.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        # On a cluster a job of ours is one process unless the trainer says otherwise.
        ".*The `srun` command is available.*",
        # Each process logs its own share's loss; the gradients are what is shared.
        ".*recommended to use `self.log.*sync_dist=True.*",
        # Our sampler goes on where the loop stands, whatever the loader says.
        ".*your dataloader is not resumable.*",
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
