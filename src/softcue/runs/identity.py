"""Which settings make a run the run it is: the rest may change without a new result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import translate
from functools import cache
from typing import Any

WITHOUT_EFFECT = (
    # where things are read and written
    "paths",
    "backbone.cache_dir",
    "trainer.default_root_dir",
    "callbacks.*.dirpath",
    "callbacks.last",
    # what is kept in memory, and what is computed again
    "cache",
    "backbone.gradient_checkpointing",
    # what takes effect only where another setting repeats it: optimizer.lr, prompt.method, prompt.layout
    "prompt.learning_rate",
    "prompt.initialiser",
    "prompt.runs",
    "prompt.vote",
    "prompt.source",
    "data.instruction",
    "data.anchor",
    "data.task_names",
    "data.tasks.*.anchor",
    "data.tasks.*.instruction",
    "data.tasks.*.task_names",
    # what is shown and logged
    "logger",
    "callbacks.*progress_bar",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    # how it is started
    "hydra",
    "dry",
    "show",
    "packed",
    "search",
    # which machine does the work
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "data.num_workers",
    "threads",
)
"""Dotted paths (fnmatch patterns) of settings that determine no result, with all beneath them."""


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a run's result: all but those of `WITHOUT_EFFECT`."""
    return without(settings, patterns=WITHOUT_EFFECT)


def without(settings: Mapping[str, Any], *, patterns: tuple[str, ...], above: str = "") -> dict[str, Any]:
    """The nested settings less every path that a pattern names, `above` being where they hang."""
    kept = {}
    for key, value in settings.items():
        path = f"{above}{key}"
        if _any_of(patterns).match(path):
            continue
        kept[key] = (
            without(value, patterns=patterns, above=f"{path}.") if isinstance(value, Mapping) else value
        )
    return kept


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all patterns: a report asks it of every setting of every record."""
    return re.compile("|".join(translate(pattern) for pattern in patterns))


def run_id(*, method: str, settings: Mapping[str, Any], data_fingerprint: str) -> str:
    """The method's name and 12 hexadecimal digits over all that determines the result.

    `settings` is the resolved config. The version of the code is recorded, not hashed: an upgrade
    must not start every finished run anew.
    """
    determined = {"settings": identity(settings), "data": data_fingerprint}
    canonical = json.dumps(determined, sort_keys=True, separators=(",", ":"))
    return f"{method}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
