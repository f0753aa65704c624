"""Every method and baseline at equal budgets, on as many processes as asked for.

`python -m experiments.methods.tuned --workers 14 --seconds 600 [softcue-train's settings]` runs the jobs of
`sweep=methods_at_equal_budget`, several at a time: four trials for each method on three folds of the 50
labels, then each one's best on all 50, five seeds and two draws of labels, on test tweets that no choice has
seen. `--methods` names some of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.workers import Done, Overrides, Workers, expect_settings
from softcue.configs import CONFIG_PATH
from softcue.sweep.space import as_overrides, parse_space, points

HERE = Path(__file__).parent
RUNS = HERE / "tuned_runs"
CHOSEN = HERE / "chosen.json"
COMMON = (
    "backbone=smollm2_135m",
    "data=airline_complaints",
    "trainer.enable_progress_bar=false",
    "callbacks.progress_bar=null",
)
FOLDS = range(3)
DRAWS = (0, 1)
SEEDS = range(5)
RATE = "prompt.learning_rate"
ALONE = ("baseline/lora", "baseline/ia3")
"""Adapters, which cannot train jointly."""
UNTUNED = (
    "hard_prompt",
    *(f"baseline/{name}" for name in ("zero_shot_calibrated", "plurality", "tfidf", "tfidf_svm", "probe")),
    "baseline/in_context",
)


def spaces() -> dict[str, dict[str, str]]:
    """The declared space of every method."""
    sweep = OmegaConf.load(CONFIG_PATH / "sweep" / "methods_at_equal_budget.yaml")
    base = OmegaConf.load(CONFIG_PATH / "sweep" / "equal_budget.yaml")
    both: Any = OmegaConf.to_container(OmegaConf.merge(base, sweep))
    found: dict[str, dict[str, str]] = both["hydra"]["sweeper"]["spaces"]
    return found


class Tuning:
    """The jobs of all methods; a method's refits follow when its folds are complete."""

    def __init__(self, workers: Workers, settings: Overrides) -> None:
        self.workers, self.settings = workers, settings
        self.scores: dict[str, dict[Overrides, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.open: dict[str, int] = defaultdict(int)
        self.trials_of: dict[str, tuple[str, list[Overrides]]] = {}
        self.chosen: dict[str, Any] = {}

    def submit(self, methods: Sequence[str]) -> None:
        """All trials of these methods, and the untuned baselines among them."""
        self.chosen = json.loads(CHOSEN.read_text()) if CHOSEN.exists() else {}
        for method, texts in spaces().items():
            if method not in methods:
                continue
            if method in self.chosen:
                self._refit(method, tuple(self.chosen[method]["settings"]))
                continue
            drawn = points(parse_space(texts), count=4, sampler="sobol", seed=0)
            trials = [tuple(as_overrides(point)) for point in drawn]
            for jointly in _passes(trials, jointly=method not in ALONE):
                for fold in FOLDS:
                    self._submit_fold(method, jointly, fold)
        for method in UNTUNED:
            if method in methods:
                self._refit(method, ())

    def when_done(self, done: Done) -> None:
        """Note a fold's score; after the last, choose the method's best trial and train it again."""
        if done.key not in self.trials_of:
            return
        method, trials = self.trials_of[done.key]
        for folder in done.folders:
            record = json.loads((Path(folder) / "record.json").read_text())
            score = (record.get("metrics") or {}).get("validation", {}).get("macro_f1")
            if score is not None:
                self.scores[method][_trial_of(record, trials)].append(score)
        self.open[method] -= 1
        if self.open[method] == 0:
            means = {
                trial: sum(scores) / len(scores)
                for trial, scores in self.scores[method].items()
                if len(scores) == len(FOLDS)
            }
            if means:
                best = max(means, key=means.__getitem__)
                self.chosen[method] = {
                    "settings": list(best),
                    "validation": means[best],
                    "trials": [[list(trial), mean] for trial, mean in means.items()],
                }
                CHOSEN.write_text(json.dumps(self.chosen, indent=1, sort_keys=True) + "\n")
                self._refit(method, best)

    def _submit_fold(self, method: str, trials: list[Overrides], fold: int) -> None:
        """Trials that differ in the learning rate alone train jointly."""
        key = f"{method} {'; '.join(' '.join(trial) for trial in trials)} fold {fold}"
        self.trials_of[key] = method, trials
        self.open[method] += 1
        rates = ",".join(_rate(trial) for trial in trials)
        rate = (f"joint.learning_rate=[{rates}]",) if len(trials) > 1 else (f"{RATE}={rates}",)
        split = (
            "split=few_shot_folds",
            "split.num_folds=3",
            f"split.fold={fold}",
            "split.seed=0",
            "seed=100",
        )
        own = (f"prompt={method}", *_knobs(trials[0]), *rate)
        self.workers.submit(key, (*COMMON, *self.settings, *own, *split))

    def _refit(self, method: str, trial: Overrides) -> None:
        common = (*COMMON, *self.settings, f"prompt={method}", *trial, "split=few_shot")
        for draw in DRAWS:
            own = (*common, f"split.seed={draw}")
            if method in UNTUNED or method in ALONE:
                # A baseline's seed may change nothing, but the report pairs runs by seed.
                for seed in SEEDS:
                    self.workers.submit(f"{method} draw {draw} seed {seed}", (*own, f"seed={seed}"))
            else:
                seeds = ",".join(map(str, SEEDS))
                self.workers.submit(f"{method} draw {draw}", (*own, f"joint.seed=[{seeds}]"))


def _rate(trial: Overrides) -> str:
    return next(setting for setting in trial if setting.startswith(RATE)).removeprefix(f"{RATE}=")


def _knobs(trial: Overrides) -> Overrides:
    return tuple(setting for setting in trial if not setting.startswith(RATE))


def _passes(trials: Sequence[Overrides], *, jointly: bool) -> list[list[Overrides]]:
    if not jointly:
        return [[trial] for trial in trials]
    passes: dict[Overrides, list[Overrides]] = defaultdict(list)
    for trial in trials:
        passes[_knobs(trial)].append(trial)
    return list(passes.values())


def _trial_of(record: dict[str, Any], trials: list[Overrides]) -> Overrides:
    rate = float(record["settings"]["prompt"]["learning_rate"])
    return min(trials, key=lambda trial: abs(float(_rate(trial)) - rate))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9)
    every = [*spaces(), *UNTUNED]
    parser.add_argument("--methods", nargs="+", default=every, choices=every, metavar="METHOD")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where runs go, and complete ones are found")
    arguments, settings = parser.parse_known_args()
    expect_settings(parser, settings)
    until = time.time() + arguments.seconds
    workers = Workers(arguments.workers)
    tuning = Tuning(workers, (f"paths.runs={arguments.runs}", *settings))
    tuning.submit(arguments.methods)
    workers.run(tuning.when_done, until=until)


if __name__ == "__main__":
    main()
