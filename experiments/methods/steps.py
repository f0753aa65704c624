"""Processor seconds of every method's training step, at its defaults, on the same rows of embedded tweets.

`python -m experiments.methods.steps` writes steps.json; `--only NAMES` measures some, and keeps the others as
they are. Each method's steps alternate with prompt tuning's,
so that what else the machine does falls on both; the ratio of their medians counts. Processor time, of one
thread, does not count the time that other work takes. A step of a search without gradients is one generation.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from experiments.methods.page import NOT_MEASURED
from experiments.speed.measure import Work
from softcue.backbone.base import Backbone
from softcue.build.evaluation import build_scoring
from softcue.build.prompted import build_prompted_backbone
from softcue.contracts import Batch, SoftPrompt
from softcue.formats.prompt_file import bank_to_bytes
from softcue.plan import prepare
from softcue.runs.atomic import write_atomic
from softcue.training.evolution import Evolution
from softcue.training.objectives import LanguageModelLoss
from softcue.training.own_labels import with_own_labels
from softcue.training.recorder import this_hardware
from tests.composing import options, train_config

HERE = Path(__file__).parent


class Step:
    """A method's training step on one batch; `work` runs it."""

    def __init__(self, config: DictConfig) -> None:
        (run,) = prepare(config)
        self.layout = str(config.prompt.layout)
        lm, self.prompt = build_prompted_backbone(run.config, run.data)
        self.lm: Backbone = lm
        self.batch: Batch = next(iter(run.data.train_dataloader()))
        self.scoring = build_scoring(config)
        optimizer = instantiate(config.optimizer)
        self.work: Work = (
            partial(self._generation, optimizer.population or 20)
            if isinstance(optimizer, Evolution)
            else partial(self._step, optimizer(self.prompt.parameter_groups()))
        )

    def about(self) -> dict[str, Any]:
        """Where the virtual tokens stand, and how many numbers are trained and shipped."""
        in_front = self.layout.startswith("[soft") and self.layout.count("[soft") == 1
        place = "in front" if in_front else "behind" if self.layout.startswith("{input}") else "around"
        bank = self.prompt.eval()()
        first_layer = bank.first_layer
        every = f"layers {first_layer} and up" if first_layer else "every layer"
        where = (
            f", in {every}" if self.prompt.in_layers else f", from layer {first_layer}" * (first_layer > 0)
        )
        return {
            "place": place + where,
            "trainable": sum(parameter.numel() for parameter in self.prompt.parameters()),
            "shipped": sum(tensor.numel() for tensor in bank.tensors().values()),
        }

    def _step(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        self.prompt.train()
        bank = self.prompt()
        loss = LanguageModelLoss()(self.lm, bank, self.batch, self.scoring)
        own = self.prompt.own_labels
        with_own_labels(self.lm, bank, own, loss, num_rows=len(self.batch)).mean.backward()
        optimizer.step()
        self.prompt.after_update()

    @torch.no_grad()
    def _generation(self, population: int) -> None:
        banks = [self.prompt() for _ in range(population)]
        LanguageModelLoss().losses(self.lm, banks, [self.batch] * population, self.scoring)


def steps(source: Path, only: Sequence[str]) -> dict[str, Step]:
    """A step of each method, with a prompt in `source` for those that begin from one."""
    quickstart = ("experiment=quickstart", f"paths.runs={source / 'runs'}")
    first = Step(train_config(*quickstart, "prompt=prompt_tuning"))
    save(first.prompt, first.lm, source)
    given = {"xprompt": [f"prompt.source={source}"], "attempt": [f"prompt.sources=[{source},{source}]"]}
    return {name: Step(train_config(*quickstart, f"prompt={name}", *given.get(name, []))) for name in only}


def save(prompt: SoftPrompt, lm: Backbone, folder: Path) -> None:
    """Write an untrained prompt as a run would leave a trained one."""
    content = bank_to_bytes(prompt().detach(), {"backbone": lm.spec.name, "layout": "[soft:20]{input}"})
    (folder / "prompt.safetensors").write_bytes(content)


def alternating(unit: Work, work: Work, *, rounds: int) -> tuple[float, float]:
    """Median processor seconds of both, after one unmeasured round."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for of, found in zip((unit, work), seconds, strict=True):
            start = time.process_time()
            of()
            found.append(time.process_time() - start)
    return median(seconds[0][1:]), median(seconds[1][1:])


def main() -> None:
    """Measure, and write the file."""
    torch.set_num_threads(1)
    every = [name for name in options("prompt") if name not in NOT_MEASURED]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=every, choices=every)
    arguments = parser.parse_args()
    rounds, only = arguments.rounds, arguments.only
    with tempfile.TemporaryDirectory() as folder:
        of_methods = steps(Path(folder), list(dict.fromkeys(["prompt_tuning", *only])))
    unit, units, results = of_methods["prompt_tuning"], list[float](), dict[str, dict[str, Any]]()
    for name in only:
        step = of_methods[name]
        of_unit, of_method = alternating(unit.work, step.work, rounds=rounds)
        units.append(of_unit)
        times = 1.0 if step is unit else of_method / of_unit
        results[name] = {"method": name, **step.about(), "times": times}
    hardware = this_hardware()
    where = f"one thread of {hardware.cpu}, the median of {rounds} steps"
    content = {"where": where, "prompt_tuning_s": median(units), "steps": list(results.values())}
    if only != every:
        content = _added(json.loads((HERE / "steps.json").read_text()), results, every)
    write_atomic(HERE / "steps.json", json.dumps(content, indent=1) + "\n")


def _added(earlier: dict[str, Any], new: Mapping[str, Any], every: Sequence[str]) -> dict[str, Any]:
    """Earlier measurements, with some methods' new ones."""
    steps = {step["method"]: step for step in earlier["steps"]} | dict(new)
    return {**earlier, "steps": [steps[name] for name in every if name in steps]}


if __name__ == "__main__":
    main()
