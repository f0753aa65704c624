"""Seconds of one generation of black-box tuning: candidates in one pass, and the same one at a time.

`python -m experiments.black_box.measure` writes results.json and table.md. The works alternate; medians.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from torch import Generator
from transformers import AutoModelForCausalLM

from experiments.speed.measure import DEVICE, alternating_medians
from experiments.speed.rows import workload
from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.prompts.initialisers import SampledVocabulary
from softcue.prompts.random_subspace import RandomSubspace
from softcue.runs.atomic import write_atomic
from softcue.training.objectives import LanguageModelLoss
from softcue.training.recorder import this_hardware

HERE = Path(__file__).parent
NUM_CANDIDATES, NUM_TOKENS = 20, 20
NUM_ROWS = (4, 16)
PLACES = ("in front", "behind")


def banks(lm: StreamLM) -> list[PromptBank]:
    """The candidates of a first generation."""
    generator = Generator().manual_seed(0)
    prompt = RandomSubspace(
        spec=lm.spec,
        num_virtual_tokens=NUM_TOKENS,
        generator=generator,
        initialiser=SampledVocabulary(top=5000),
        dimension=500,
        scale=1.0,
    )
    drawn = []
    for _ in range(NUM_CANDIDATES):
        with torch.no_grad():
            prompt.z_d.normal_(generator=generator)
            drawn.append(prompt().detach().to(lm.device))
    return drawn


def batch_of(rows: list[list[int]], labels: list[tuple[int, ...]], *, place: str) -> Batch:
    """Rows with the virtual tokens in front or behind."""
    virtual = [-1 - k for k in range(NUM_TOKENS)]
    placed = [virtual + row if place == "in front" else row + virtual for row in rows]
    zeros = torch.zeros(len(rows), dtype=torch.long)
    return Batch(
        rows=tuple(map(tuple, placed)),
        choices=tuple((label,) for label in labels),
        target_B=zeros,
        prompt_B=zeros,
        row_B=torch.arange(len(rows)),
    ).to(DEVICE)


@torch.no_grad()
def generation(lm: StreamLM, candidates: list[PromptBank], batch: Batch, *, at_once: int) -> list[float]:
    """The loss of each candidate, so many of them in a pass."""
    loss, scoring, found = LanguageModelLoss(), Scoring(per_token=False), []
    for first in range(0, len(candidates), at_once):
        part = candidates[first : first + at_once]
        found += loss.losses(lm, part, [batch] * len(part), scoring)
    return [float(one.mean) for one in found]


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    work = workload()
    model = AutoModelForCausalLM.from_pretrained(
        dequantised(embedded_gguf(), Path.home() / ".cache" / "softcue"), dtype=torch.float32
    )
    lm = StreamLM(model, work.tokenizer, name="smollm2_135m").to(DEVICE)
    lm.limit_cache(2.0)
    candidates = banks(lm)
    results: list[dict[str, float | str]] = []
    for place in PLACES:
        for count in NUM_ROWS:
            batch = batch_of(work.rows[:count], work.labels[:count], place=place)
            joint, alone = (
                partial(generation, lm, candidates, batch, at_once=at_once) for at_once in (NUM_CANDIDATES, 1)
            )
            apart = max(abs(a - b) for a, b in zip(joint(), alone(), strict=True))
            seconds = alternating_medians({"joint": joint, "alone": alone}, rounds=rounds)
            results.append(
                {
                    "place": place,
                    "rows": count,
                    "joint_s": seconds["joint"],
                    "alone_s": seconds["alone"],
                    "largest_difference": apart,
                }
            )
    hardware = this_hardware()
    where = f"{hardware.gpu or hardware.cpu}, threads={hardware.threads}, {rounds} rounds"
    write_atomic(HERE / "results.json", json.dumps({"where": where, "results": results}, indent=1) + "\n")
    write_atomic(HERE / "table.md", table(results, where))


def table(results: list[dict[str, float | str]], where: str) -> str:
    """Seconds of a generation, as Markdown."""
    lines = [
        f"| virtual tokens | rows | {NUM_CANDIDATES} in one pass | one at a time | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for one in results:
        joint, alone = float(one["joint_s"]), float(one["alone_s"])
        lines.append(
            f"| {one['place']} | {one['rows']} | {joint:.2f} s | {alone:.2f} s | {alone / joint:.2f} |"
        )
    apart = max(float(one["largest_difference"]) for one in results)
    return "\n".join([*lines, "", f"{where}. Losses differ by at most {apart:.1e}."]) + "\n"


if __name__ == "__main__":
    main()
