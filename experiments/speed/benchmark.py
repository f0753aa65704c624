"""`make bench`: softcue against PEFT, alternating in one process, same weights, same rows.

Claim: several times PEFT's speed in a fraction of its memory, with the plain forward's results.
Command: python -m experiments.speed.benchmark [PART …], the parts being the keys of `PARTS`.
Cost: about forty minutes on 2 cores for all parts. Writes results.json beside this file.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM, PreTrainedModel

from experiments.speed.encoder_decoder import encoder_decoder
from experiments.speed.measure import (
    alternating_medians,
    gemm_rates,
    measured,
    step_operations,
    step_shares,
)
from experiments.speed.ours import Ours
from experiments.speed.peers import Peft
from experiments.speed.rows import Workload, classes_77, workload
from experiments.speed.startup import startup
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.stream_lm import StreamLM

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
METHODS = ("prompt_tuning", "prefix_tuning", "p_tuning")
VIRTUAL_TOKENS, ROUNDS = 20, 5
NEW_TOKENS = 32
console = Console(stderr=True)
Result = dict[str, Any]


def smollm2(dtype: torch.dtype) -> PreTrainedModel:
    folder = dequantised(embedded_gguf(), Path.home() / ".cache" / "softcue")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert isinstance(model, PreTrainedModel)
    return model


def bloomz_560m(dtype: torch.dtype) -> PreTrainedModel:
    """A model of its shape with random weights: speed does not depend on their values."""
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=250_880, hidden_size=1024, n_layer=24, n_head=16)
    model = BloomForCausalLM(config)
    cast(nn.Module, model).to(dtype).eval()
    return model


MODELS: dict[str, Callable[[torch.dtype], PreTrainedModel]] = {
    "smollm2_135m": smollm2,
    "bloomz_560m": bloomz_560m,
}


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the model but share its tensors, so that the peer wraps the same weights."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def training(name: str, work: Workload, methods: Sequence[str]) -> list[Result]:
    """A training step on the tutorial's batch, in float32 and in our best dtype."""
    results = []
    model = MODELS[name](torch.float32)
    peer_model, lm = twin(model), StreamLM(model, work.tokenizer, name=name)
    best = StreamLM(MODELS[name](torch.bfloat16), work.tokenizer, name=name)
    for method in methods:
        console.log(f"training {name} {method}")
        peft = Peft(peer_model, method, num_virtual_tokens=VIRTUAL_TOKENS)
        ours, fast = (Ours(each, method, num_virtual_tokens=VIRTUAL_TOKENS) for each in (lm, best))
        works = {
            "tutorial": partial(peft.train_step, work.rows, work.labels, pad="tutorial"),
            "batch": partial(peft.train_step, work.rows, work.labels, pad="batch"),
            "float32": partial(ours.train_step, work.rows, work.labels),
            "bfloat16": partial(fast.train_step, work.rows, work.labels),
        }
        seconds, memory = measured(works, rounds=ROUNDS)
        common = {"model": name, "method": method}
        results += [
            {
                "work": "training step",
                **common,
                "dtype": dtype,
                "ours_s": seconds[dtype],
                "peer": f"PEFT float32, padded to {'64' if peer == 'tutorial' else 'the batch'}",
                "peer_s": seconds[peer],
                "ratio": seconds[peer] / seconds[dtype],
                "memory_ratio": memory[peer] / memory[dtype],
                "ours_mb": memory[dtype],
                "peer_mb": memory[peer],
            }
            for dtype in ("float32", "bfloat16")
            for peer in ("tutorial", "batch")
        ]
        results += limits(model, ours, work, seconds["float32"], common)
    return results


def limits(
    model: PreTrainedModel, ours: Ours, work: Workload, seconds: float, common: Result
) -> list[Result]:
    """The share of a float32 training step that the matrix products alone would take."""
    operations = step_operations(
        model,
        num_tokens=ours.num_tokens(work.rows, work.labels),
        num_read=sum(len(label) for label in work.labels),
    )
    rates = gemm_rates(torch.float32)
    # What the step's products reach: smaller than the square ones, and their weights come from memory.
    shares = step_shares(lambda: ours.train_step(work.rows, work.labels))
    rates["its own products"] = operations / (shares["products"] * seconds)
    console.log({share: f"{value:.0%}" for share, value in shares.items()})
    return [
        {
            "work": "matrix-product limit",
            **common,
            "dtype": "float32",
            "ours_s": seconds,
            "peer": f"products alone at {rate / 1e9:.0f} GFLOP/s ({product})",
            "peer_s": operations / rate,
            "step_shares": shares,
            "ratio": operations / rate / seconds,
            "memory_ratio": None,
        }
        for product, rate in rates.items()
    ]


def suffix(work: Workload) -> list[Result]:
    """Five virtual tokens after the text: static contexts against none, and against a prefix."""
    lm = StreamLM(smollm2(torch.float32), work.tokenizer, name="smollm2_135m")
    after = Ours(lm, "prompt_tuning", num_virtual_tokens=5, place="suffix")
    before = Ours(lm, "prompt_tuning", num_virtual_tokens=5)

    def step(side: Ours, budget_gb: float) -> float:
        lm.contexts.set_budget(budget_gb)
        return side.train_step(work.rows, work.labels)

    def kept() -> float:
        return after.train_step(work.rows, work.labels)

    lm.contexts.set_budget(2.0)
    seconds = alternating_medians(
        {"kept": kept, "prefix": lambda: before.train_step(work.rows, work.labels)}, rounds=ROUNDS
    )
    seconds |= alternating_medians({"recomputed": lambda: step(after, 0.0)}, rounds=ROUNDS)
    return [
        {
            "work": "5-token suffix, static context kept",
            "model": "smollm2_135m",
            "method": "prompt_tuning",
            "dtype": "float32",
            "ours_s": seconds["kept"],
            "peer": peer,
            "peer_s": seconds[key],
            "ratio": seconds[key] / seconds["kept"],
            "memory_ratio": None,
        }
        for key, peer in (("prefix", "ours, as a prefix"), ("recomputed", "ours, cache.budget_gb=0"))
    ]


def evaluation(work: Workload, name: str) -> list[Result]:
    """Scoring 2 classes against PEFT's generate and against a full forward for each class."""
    model = MODELS[name](torch.float32)
    peft = Peft(twin(model), "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
    ours, fast = (
        Ours(StreamLM(each, work.tokenizer, name=name), "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
        for each in (model, MODELS[name](torch.bfloat16))
    )
    seconds = alternating_medians(
        {
            "float32": lambda: ours.score(work.rows, work.choices),
            "bfloat16": lambda: fast.score(work.rows, work.choices),
            "generate": lambda: peft.generate(work.rows),
            "classes": lambda: peft.score_each_class(work.rows, work.choices),
        },
        rounds=ROUNDS,
    )
    peers = {
        "generate": "PEFT float32, generate 10 tokens",
        "classes": "PEFT float32, a forward for each of 2 classes",
    }
    return [
        scored(name, 2, dtype, seconds[dtype], len(work.rows), peer, seconds[key])
        for key, peer in peers.items()
        for dtype in ("float32", "bfloat16")
    ]


def generation(work: Workload, name: str) -> list[Result]:
    """32 tokens after each of 16 rows, greedily and with 4 beams, against PEFT's generate."""
    model = MODELS[name](torch.float32)
    peft = Peft(twin(model), "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
    ours, fast = (
        Ours(StreamLM(each, work.tokenizer, name=name), "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
        for each in (model, MODELS[name](torch.bfloat16))
    )
    results = []
    for num_beams in (1, 4):
        how = {"num_tokens": NEW_TOKENS, "num_beams": num_beams}
        seconds, memory = measured(
            {
                "float32": partial(ours.generate, work.rows, **how),
                "bfloat16": partial(fast.generate, work.rows, **how),
                "PEFT": partial(peft.generate, work.rows, pad="batch", **how),
            },
            rounds=3,
        )
        results += [
            {
                "work": f"generation, {NEW_TOKENS} tokens, {num_beams} beam{'s' * (num_beams > 1)}",
                "model": name,
                "method": "prompt_tuning",
                "dtype": dtype,
                "ours_s": seconds[dtype],
                "ours_mb": memory[dtype],
                "peer": "PEFT float32, generate, padded to the batch",
                "peer_s": seconds["PEFT"],
                "peer_mb": memory["PEFT"],
                "ratio": seconds["PEFT"] / seconds[dtype],
                "memory_ratio": memory["PEFT"] / memory[dtype],
            }
            for dtype in ("float32", "bfloat16")
        ]
    return results


def many_classes(work: Workload) -> list[Result]:
    """Scoring 77 classes against 2, and against a full forward for each class."""
    name, many = "smollm2_135m", classes_77(work.tokenizer)
    model = smollm2(torch.float32)
    peft = Peft(twin(model), "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
    results = []
    for dtype, own in (("float32", model), ("bfloat16", smollm2(torch.bfloat16))):
        lm = StreamLM(own, work.tokenizer, name=name)
        ours = Ours(lm, "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
        seconds = alternating_medians(
            {
                "2": partial(ours.score, work.rows, work.choices),
                "77": partial(ours.score, work.rows, many),
            },
            rounds=ROUNDS,
        )
        results.append(
            scored(name, 77, dtype, seconds["77"], len(work.rows), "ours, 2 classes", seconds["2"])
        )
        if dtype == "float32":
            # A full forward for each of 77 classes takes minutes: of 7 of them, on 4 rows, scaled up.
            part = alternating_medians(
                {"part": lambda: peft.score_each_class(work.rows[:4], many[::11])}, rounds=1
            )["part"]
            peer = "PEFT float32, a forward for each of 77 classes (from 7 of them, 4 rows)"
            whole = part * len(work.rows) / 4 * len(many) / len(many[::11])
            results.append(scored(name, 77, dtype, seconds["77"], len(work.rows), peer, whole))
    return results


def scored(
    model: str, num_classes: int, dtype: str, seconds: float, num_rows: int, peer: str, peer_seconds: float
) -> Result:
    """One comparison of scoring times."""
    return {
        "work": f"evaluation, {num_classes} classes",
        "model": model,
        "method": "prompt_tuning",
        "dtype": dtype,
        "ours_s": seconds,
        "rows_per_s": num_rows / seconds,
        "peer": peer,
        "peer_s": peer_seconds,
        "ratio": peer_seconds / seconds,
        "memory_ratio": None,
    }


def engines(work: Workload, name: str) -> list[Result]:
    """A training step on the stream engine against the same step on the plain engine."""
    model = MODELS[name](torch.float32)
    plain = PlainLM(twin(model), work.tokenizer, name=name)
    stream = StreamLM(model, work.tokenizer, name=name)
    results = []
    for method in ("prompt_tuning", "prefix_tuning"):
        sides = {lm.engine: Ours(lm, method, num_virtual_tokens=VIRTUAL_TOKENS) for lm in (stream, plain)}
        works: dict[str, Callable[[], object]] = {
            key: partial(side.train_step, work.rows, work.labels) for key, side in sides.items()
        }
        seconds, memory = measured(works, rounds=ROUNDS)
        results.append(
            {
                "work": f"training step, {method}",
                "model": name,
                "method": method,
                "dtype": "float32",
                "ours_s": seconds["stream"],
                "ours_mb": memory["stream"],
                "peer": "ours, engine=plain",
                "peer_s": seconds["plain"],
                "peer_mb": memory["plain"],
                "ratio": seconds["plain"] / seconds["stream"],
                "memory_ratio": memory["plain"] / memory["stream"],
            }
        )
    return results


def growth(work: Workload) -> list[Result]:
    """Seconds and megabytes of a step against rows, text length, prompt length and classes."""
    lm = StreamLM(smollm2(torch.float32), work.tokenizer, name="smollm2_135m")
    many = classes_77(work.tokenizer)
    results = []

    def add(what: str, value: int, run: Callable[[], object]) -> None:
        seconds, memory = measured({"ours": run}, rounds=3)
        results.append(
            {
                "work": f"growth with {what}",
                "model": "smollm2_135m",
                "method": "prompt_tuning",
                "dtype": "float32",
                "value": value,
                "ours_s": seconds["ours"],
                "ours_mb": memory["ours"],
                "peer": None,
                "peer_s": None,
                "ratio": None,
                "memory_ratio": None,
            }
        )

    ours = Ours(lm, "prompt_tuning", num_virtual_tokens=VIRTUAL_TOKENS)
    for count in (4, 8, 16, 32):
        rows, labels = (work.rows * 2)[:count], (work.labels * 2)[:count]
        add("rows", count, partial(ours.train_step, rows, labels))
    for length in (16, 32, 64, 128):
        rows = [(row * 10)[at : at + length] for at, row in enumerate(work.rows)]
        add("text length", length, partial(ours.train_step, rows, work.labels))
    for count in (1, 5, 20, 100):
        prompt = Ours(lm, "prompt_tuning", num_virtual_tokens=count)
        add("prompt length", count, partial(prompt.train_step, work.rows, work.labels))
    for count in (2, 8, 32, 77):
        add("classes scored", count, partial(ours.score, work.rows, many[:count]))
    return results


rows = cache(workload)
PARTS: dict[str, Callable[[], list[Result]]] = {
    "startup": startup,
    "training": lambda: training("smollm2_135m", rows(), METHODS),
    "suffix": lambda: suffix(rows()),
    "evaluation": lambda: evaluation(rows(), "smollm2_135m") + many_classes(rows()),
    "generation": lambda: generation(rows(), "smollm2_135m"),
    "engines": lambda: engines(rows(), "smollm2_135m"),
    "encoder_decoder": lambda: encoder_decoder(rows(), num_virtual_tokens=VIRTUAL_TOKENS, rounds=ROUNDS),
    "growth": lambda: growth(rows()),
    "bloom_prompt_tuning": lambda: training("bloomz_560m", rows(), ["prompt_tuning"]),
    "bloom_prefix_tuning": lambda: training("bloomz_560m", rows(), ["prefix_tuning"]),
    "bloom_p_tuning": lambda: training("bloomz_560m", rows(), ["p_tuning"]),
    "bloom_evaluation": lambda: evaluation(rows(), "bloomz_560m"),
    "bloom_engines": lambda: engines(rows(), "bloomz_560m"),
}


def run(parts: list[str]) -> None:
    """Measure the named parts, all by default; each replaces its earlier results when it ends."""
    for part in parts or list(PARTS):
        console.log(part)
        earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        measured_now = [{**result, "part": part} for result in PARTS[part]()]
        kept = [result for result in earlier if result["part"] != part]
        RESULTS.write_text(json.dumps(kept + measured_now, indent=1) + "\n")


if __name__ == "__main__":
    run(sys.argv[1:])
