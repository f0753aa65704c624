"""Layers that draw their start from the global generator, made to draw it from ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


@contextmanager
def seeded(generator: Generator) -> Iterator[None]:
    """Inside, torch's global generator continues from a draw of `generator`; outside, it is untouched."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
