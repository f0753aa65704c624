"""Alternating medians, peak memory above the loaded model, and the matrix-product limit."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import nn

from softcue.runs.memory import PeakMemory

Work = Callable[[], object]


def alternating_medians(works: Mapping[str, Work], *, rounds: int) -> dict[str, float]:
    """Median seconds of each work, the works taking turns, after one turn that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def peak_above_start(work: Work) -> float:
    """Megabytes that a work takes at its peak above what is resident before it."""
    gc.collect()
    # Freed pages go back to the system, or the work would fill them unseen.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with PeakMemory() as memory:
        work()
    return memory.reading(gpu=None).above_start


def gemm_rate(dtype: torch.dtype, *, size: int = 2048, rounds: int = 7) -> float:
    """Floating-point operations a second of a large square matrix product."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / alternating_medians({"gemm": lambda: a @ b}, rounds=rounds)["gemm"]


def step_operations(model: nn.Module, *, num_tokens: int, num_logits: int) -> float:
    """Operations of a training step's products: forward and activation backward, no weight gradients."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
    body = sum(m.weight.numel() for m in linears) * num_tokens
    return 4.0 * float(body + head.weight.numel() * num_logits)
