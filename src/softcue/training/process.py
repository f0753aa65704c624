"""Settings of the whole process that trains: threads, seeds and warnings."""

from __future__ import annotations

import logging
import os
import warnings

import joblib
import torch
from lightning import seed_everything
from lightning.pytorch.utilities import rank_zero_only

from softcue.runs.record import Hardware
from softcue.training.recorder import this_hardware

log = logging.getLogger(__name__)

INTENDED = (
    # Rows are ids already: a worker process would cost more than it loads.
    ".*does not have many workers.*",
    # The run's folder holds its log and record before training starts.
    ".*exists and is not empty.*",
    # Few-shot runs have no validation rows by default.
    "Total length of `list` across ranks is zero.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    # On a cluster, a job is one process unless the trainer's settings ask for more.
    ".*The `srun` command is available.*",
    # Each process logs the loss of its own share; only gradients are shared.
    ".*recommended to use `self.log.*sync_dist=True.*",
    # The order of rows resumes at the loop's position by itself.
    ".*your dataloader is not resumable.*",
)
"""Warnings of libraries about what is intended here."""


def prepare_process(*, seed: int, threads: int | None) -> None:
    """Seed all generators, set the number of threads and silence warnings about intended choices."""
    # Its announcements: which accelerators there are not, and a service to try.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in INTENDED:
        warnings.filterwarnings("ignore", message=message)
    use_threads(threads)
    seed_everything(seed, workers=True, verbose=False)


def is_first_process() -> bool:
    """Whether this is the process of a distributed run that scores and records, or the only one."""
    return bool(vars(rank_zero_only)["rank"] == 0)


def use_threads(count: int | None) -> None:
    """Give torch this many threads; None: OMP_NUM_THREADS, or all cores that this process may use.

    Those are the physical cores within its affinity and cgroup quota. torch itself counts the machine's
    cores, and starts too many threads in a container that has a share of them.
    """
    if count is None and "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(count or joblib.cpu_count(only_physical_cores=True))


def use_earlier_threads(earlier: Hardware, *, threads: int | None) -> None:
    """Use as many threads as the run that is resumed: their number determines the order of sums.

    Warns if the processor or the number differs in spite of that.
    """
    if threads is None and earlier.threads <= joblib.cpu_count():
        torch.set_num_threads(earlier.threads)
    here = this_hardware()
    if (here.cpu, here.threads) != (earlier.cpu, earlier.threads):
        log.warning(
            "this run began on %s with threads=%d and resumes on %s with threads=%d: its last digits may "
            "differ from those of an uninterrupted run",
            *(earlier.cpu, earlier.threads, here.cpu, here.threads),
        )
