"""`python -m experiments.speed.on_gpu`: a training step and scoring against PEFT on a GPU.

Claim: what the plan saves on a CPU it also saves on a GPU, where a small step waits for the launch of its
kernels instead. Both sides run in the same dtype. Cost: about three minutes on one GPU. Weights are random
but for their sizes. Writes results_gpu.json and table_gpu.md beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from experiments.speed.benchmark import METHODS, ROUNDS, VIRTUAL_TOKENS, twin
from experiments.speed.measure import DEVICE, measured
from experiments.speed.ours import Ours
from experiments.speed.peers import Peft
from experiments.speed.rows import Workload, workload
from experiments.speed.table import table
from softcue.backbone.stream_lm import StreamLM

RESULTS, TABLE = (Path(__file__).with_name(name) for name in ("results_gpu.json", "table_gpu.md"))


def bloom(*, hidden_size: int, n_layer: int, n_head: int) -> PreTrainedModel:
    """A BLOOM of bloomz's vocabulary."""
    return BloomForCausalLM(
        BloomConfig(vocab_size=250_880, hidden_size=hidden_size, n_layer=n_layer, n_head=n_head)
    )


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "smollm2_135m": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
        )
    ),
    "bloomz_560m": lambda: bloom(hidden_size=1024, n_layer=24, n_head=16),
    "bloomz_7b1": lambda: bloom(hidden_size=4096, n_layer=30, n_head=32),
}
CASES = [
    ("smollm2_135m", torch.float32),
    ("smollm2_135m", torch.bfloat16),
    ("bloomz_560m", torch.float32),
    ("bloomz_560m", torch.bfloat16),
    ("bloomz_7b1", torch.bfloat16),
]
Result = dict[str, Any]
console = Console(stderr=True)


def compare(name: str, dtype: torch.dtype, work: Workload, *, times: int) -> list[Result]:
    """Each method's step, and scoring, on `times` copies of the 16 rows."""
    model = _random(name, dtype)
    peer_model, lm = twin(model), StreamLM(model, work.tokenizer, name=name)
    rows, labels = work.rows * times, work.labels * times
    results = []
    for method in METHODS:
        ours = Ours(lm, method, num_virtual_tokens=VIRTUAL_TOKENS)
        peft = Peft(peer_model, method, num_virtual_tokens=VIRTUAL_TOKENS)
        works: dict[str, Callable[[], object]] = {
            "ours": partial(ours.train_step, rows, labels),
            "tutorial": partial(peft.train_step, rows, labels, pad="tutorial"),
            "batch": partial(peft.train_step, rows, labels, pad="batch"),
        }
        results.append(_result("training step", name, dtype, method, len(rows), works))
        if method == "prompt_tuning":
            scoring: dict[str, Callable[[], object]] = {
                "ours": partial(ours.score, rows, work.choices),
                "generate": partial(peft.generate, rows),
                "classes": partial(peft.score_each_class, rows, work.choices),
            }
            results.append(_result("evaluation, 2 classes", name, dtype, method, len(rows), scoring))
    return results


def _random(name: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with DEVICE:
            model = MODELS[name]()
    finally:
        torch.set_default_dtype(before)
    cast(nn.Module, model).eval().requires_grad_(False)
    return model


def _result(
    what: str,
    model: str,
    dtype: torch.dtype,
    method: str,
    num_rows: int,
    works: dict[str, Callable[[], object]],
) -> Result:
    for run in works.values():
        run()  # kernels are compiled and tuned at their first call
    seconds, memory = measured(works, rounds=2 * ROUNDS)
    result = {
        "work": what,
        "model": model,
        "dtype": str(dtype).removeprefix("torch."),
        "method": method,
        "rows": num_rows,
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "seconds": seconds,
        "megabytes": memory,
    }
    console.log({key: f"{value * 1000:.1f} ms" for key, value in seconds.items()})
    return result


def run() -> None:
    """Measure every case; each is written when it ends."""
    work, results = workload(), []
    for name, dtype in CASES:
        for times in (1, 8):
            console.log(f"{name} {dtype}, {16 * times} rows")
            results += compare(name, dtype, work, times=times)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            torch.cuda.empty_cache()
    TABLE.write_text(markdown(results))


def markdown(results: list[Result]) -> str:
    """The table of docs/speed.md: milliseconds of each side, and how many times ours fits into a peer's."""
    header = ["work", "model", "dtype", "rows", "ours", "PEFT, padded to 64", "PEFT, padded to the batch"]
    trained = [_cells(result, ("tutorial", "batch")) for result in results if "batch" in result["seconds"]]
    scored = [_cells(result, ("generate", "classes")) for result in results if "classes" in result["seconds"]]
    machine = f"{results[0]['device']}, torch {results[0]['torch']}"
    return "\n".join(
        [
            f"{machine}; both sides in the same dtype, milliseconds.\n",
            table(header, trained),
            table([*header[:5], "PEFT, generate 10 tokens", "PEFT, a forward for each class"], scored),
        ]
    )


def _cells(result: Result, peers: Sequence[str]) -> list[str]:
    ours = result["seconds"]["ours"]
    times = [result["seconds"][peer] for peer in peers]
    what = result["method"] if result["work"] == "training step" else result["work"]
    return [
        what,
        result["model"],
        result["dtype"],
        str(result["rows"]),
        f"{1e3 * ours:.0f}",
        *(f"{1e3 * seconds:.0f} (**{seconds / ours:.1f} ×**)" for seconds in times),
    ]


if __name__ == "__main__":
    run()
