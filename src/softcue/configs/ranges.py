"""The numbers that settings may be, checked when a config is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from math import inf, isfinite
from typing import Any

from softcue.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Range:
    """Finite numbers from `low` to `high`, or only whole ones; `above` and `below` leave out the bounds."""

    low: float = 0
    high: float = inf
    whole: bool = False
    above: bool = False
    below: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
            return False
        if self.whole and not isinstance(value, int):
            return False
        reaches_low = value > self.low if self.above else value >= self.low
        return reaches_low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        low = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high == inf:
            return f"{kind}, {low}"
        return f"{kind}, {low} and {f'below {self.high:g}' if self.below else f'{self.high:.10g} or less'}"


COUNT = Range(low=1, whole=True)
COUNT_FROM_0 = Range(whole=True)
SEED = Range(high=2**32 - 1, whole=True)
NOT_NEGATIVE = Range()
POSITIVE = Range(above=True)
SHARE = Range(high=1)
BELOW_1 = Range(high=1, below=True)

RANGES: Mapping[str, Range] = {
    "seed": SEED,
    "threads": COUNT,
    "cache.budget_gb": NOT_NEGATIVE,
    "joint.seed": SEED,
    "joint.learning_rate": NOT_NEGATIVE,
    "data.*batch_size": COUNT,
    "data.*max_length": COUNT,
    "data.*max_target_length": Range(low=2, whole=True),
    "data.decoding.max_new_tokens": COUNT,
    "data.decoding.num_beams": COUNT,
    "data.decoding.temperature": NOT_NEGATIVE,
    "data.decoding.top_k": COUNT,
    "data.decoding.top_p": Range(high=1, above=True),
    "data.decoding.seed": SEED,
    "data.*num_workers": COUNT_FROM_0,
    "data.*min_confidence": SHARE,
    "data.temperature": POSITIVE,
    "data.*source.num_rows": COUNT,
    "data.*source.seed": SEED,
    "split.num_train": COUNT,
    "split.num_validation": COUNT_FROM_0,
    "split.num_test": COUNT_FROM_0,
    "split.num_folds": Range(low=2, whole=True),
    "split.fold": COUNT_FROM_0,
    "split.*seed": SEED,
    "prompt.learning_rate": NOT_NEGATIVE,
    "prompt.member": COUNT_FROM_0,
    "prompt.*initialiser.std": NOT_NEGATIVE,
    "prompt.*initialiser.limit": NOT_NEGATIVE,
    "prompt.*initialiser.top": COUNT,
    "prompt.*initialiser.member": COUNT_FROM_0,
    "prompt.method.hidden_size": COUNT,
    "prompt.method.num_layers": COUNT,
    "prompt.method.dropout": BELOW_1,
    "prompt.method.rank": COUNT,
    "prompt.method.num_frozen": COUNT_FROM_0,
    "prompt.method.num_prompts": Range(low=2, whole=True),
    "prompt.method.noise": NOT_NEGATIVE,
    "prompt.method.num_words": COUNT_FROM_0,
    "prompt.method.top": COUNT,
    "prompt.method.gain": NOT_NEGATIVE,
    "prompt.method.*_radius": NOT_NEGATIVE,
    "prompt.method.decay": SHARE,
    "prompt.method.dimension": COUNT,
    "prompt.method.num_pieces": COUNT,
    "prompt.method.kept_pieces": Range(high=1, above=True),
    "prompt.method.scale": POSITIVE,
    "prompt.method.task_learning_rate": NOT_NEGATIVE,
    "prompt.method.member": COUNT_FROM_0,
    "prompt.method.ngram_max": COUNT,
    "prompt.method.c": POSITIVE,
    "prompt.method.alpha": COUNT,
    "prompt.method.num_rows": COUNT,
    "prompt.method.seed": SEED,
    "scoring.*num_folds": Range(low=2, whole=True),
    "scoring.*seed": SEED,
    "objective.labels": NOT_NEGATIVE,
    "objective.unlikelihood": NOT_NEGATIVE,
    "objective.length_normalised": NOT_NEGATIVE,
    "objective.unlabelled": NOT_NEGATIVE,
    "data.train_unlabelled": COUNT,
    "objective.logits": NOT_NEGATIVE,
    "objective.hidden": NOT_NEGATIVE,
    "optimizer.lr": NOT_NEGATIVE,
    "optimizer.betas": BELOW_1,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.sigma": POSITIVE,
    "optimizer.population": Range(low=2, whole=True),
    "scheduler.warmup_fraction": SHARE,
    "trainer.num_nodes": COUNT,
    "trainer.max_epochs": COUNT,
    "trainer.max_steps": Range(low=-1, whole=True),
    "trainer.accumulate_grad_batches": COUNT,
    "trainer.gradient_clip_val": NOT_NEGATIVE,
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.num_sanity_val_steps": Range(low=-1, whole=True),
    "trainer.log_every_n_steps": COUNT_FROM_0,
    "callbacks.last.every_s": NOT_NEGATIVE,
    "callbacks.early_stopping.patience": COUNT_FROM_0,
    "search.pruner.n_*": COUNT_FROM_0,
}
"""By path (fnmatch pattern). A list's items are checked one by one, and null is always allowed."""


def expect_in_range(settings: Mapping[str, Any]) -> None:
    """Refuse a value that its setting may not have; `settings` are resolved, by path.

    Raises:
        ConfigError: names the first such setting, its value and its range.
    """
    for path, value in settings.items():
        limits = range_of(path)
        for one in value if isinstance(value, list) else [value]:
            if limits is not None and one is not None and one not in limits:
                raise ConfigError(f"{path} is {value!r}; give {limits}.")


@cache
def range_of(path: str) -> Range | None:
    """The range of a setting, None where there is none."""
    return next((limits for pattern, limits in RANGES.items() if fnmatch(path, pattern)), None)
