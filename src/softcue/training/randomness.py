"""Random numbers of training: those of a step follow from the run's seed, all others can be restored."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def step_generator(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Make torch draw the numbers of this run's seed and step; the global generators do not advance.

    So a run draws the same numbers alone and jointly, uninterrupted and resumed, in every process and in
    every batch of a step.
    """
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Torch uses 32 bits of a seed, so both numbers are mixed into as many.
        own = int(np.random.SeedSequence((seed, step)).generate_state(1)[0])
        torch.default_generator.manual_seed(own)
        if cuda:
            torch.cuda.manual_seed(own)
        yield


def generators() -> dict[str, Any]:
    """The states of torch's, Python's and numpy's generators, in types that load without pickle."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - libraries draw from it
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
    }


def set_generators(states: dict[str, Any]) -> None:
    """Restore the states that `generators` returned."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        # A resumed run may see fewer devices than before, or more.
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
