"""Alternating medians, peak memory above the loaded model, and the limit set by matrix products."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from softcue.backbone.frozen_layers import frozen_linear
from softcue.runs.memory import PeakMemory

Work = Callable[[], object]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def alternating_medians(works: Mapping[str, Work], *, rounds: int) -> dict[str, float]:
    """Median seconds of each work, the works alternating, after one unmeasured round."""
    return measured(works, rounds=rounds)[0]


def measured(works: Mapping[str, Work], *, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each work, the works alternating, and its peak megabytes in a round before."""
    memory = {name: peak_above_start(work) for name, work in works.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            _wait()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}, memory


def peak_above_start(work: Work) -> float:
    """Peak memory of a work in megabytes, above what is resident before it; on a GPU, the GPU's."""
    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    # Return freed pages to the system; otherwise the work would reuse them unseen.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with PeakMemory() as memory:
        work()
    return memory.reading(gpu=None).above_start


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def gemm_rates(dtype: torch.dtype, *, size: int = 2048, rounds: int = 9) -> dict[str, float]:
    """Operations per second of a large square product, by PyTorch and by softcue."""
    a, layer = torch.randn(size, size).to(dtype), nn.Linear(size, size, bias=False, dtype=dtype)
    works: dict[str, Work] = {"torch.mm": lambda: a @ layer.weight, "oneDNN": lambda: frozen_linear(layer, a)}
    with torch.no_grad():
        seconds = alternating_medians(works, rounds=rounds)
    return {name: 2 * size**3 / value for name, value in seconds.items()}


def step_operations(model: PreTrainedModel, *, num_tokens: int, num_read: int) -> float:
    """Operations of a training step's products: forward and activation backward, no weight gradients.

    What follows the last layer's attention counts only for the positions whose logits are read.
    """
    head = model.get_output_embeddings()
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    last = f".{model.config.num_hidden_layers - 1}."
    read_only = {name for name in linears if last in name and not _feeds_attention(name)}
    every = sum(m.weight.numel() for name, m in linears.items() if name not in read_only)
    read = head.weight.numel() + sum(linears[name].weight.numel() for name in read_only)
    return 4.0 * float(every * num_tokens + read * num_read)


def _feeds_attention(name: str) -> bool:
    return name.endswith(("q_proj", "k_proj", "v_proj", "query_key_value"))


PRODUCTS = ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm")
ATTENTION = ("aten::_scaled_dot_product", "aten::bmm", "aten::baddbmm", "aten::_softmax")


def step_shares(work: Work) -> dict[str, float]:
    """Shares of a step's processor time by PyTorch's profiler: products, attention, the rest."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    whole = sum(times.values())

    def share(names: tuple[str, ...]) -> float:
        return float(sum(time for name, time in times.items() if name.startswith(names)) / whole)

    products, attention = share(PRODUCTS), share(ATTENTION)
    return {"products": products, "attention": attention, "rest": 1 - products - attention}
