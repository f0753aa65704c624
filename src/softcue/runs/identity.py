"""Which settings make a run the run it is: the rest may change without a new result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from fnmatch import translate
from functools import cache, partial
from pathlib import Path
from typing import Any

from softcue.runs.contents import content_digest

WITHOUT_EFFECT = (
    # where things are read and written
    "paths",
    "backbone.cache_dir",
    "trainer.default_root_dir",
    "callbacks.*.dirpath",
    "callbacks.last",
    # how the same numbers are computed: what is kept, computed again, padded
    "cache",
    "backbone.gradient_checkpointing",
    "backbone.engine",
    "data.padding",
    "data.tasks.*.padding",
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
    "joint",
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


CONTENTS = (
    "backbone.path",
    "objective.teachers",
    "prompt.method.initialiser.path",
    "prompt.method.path",
    "prompt.method.runs",
    "prompt.method.source",
    "prompt.path",
)
"""Settings that are paths, or lists of them, of which what they hold counts and not where it lies."""


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

    `settings` is the resolved config; of `CONTENTS`, what is there counts, and the text where nothing
    is. The version of the code is recorded, not hashed: an upgrade must not repeat every finished run.
    """
    cache = (settings.get("paths") or {}).get("cache")
    counted = _with_contents(identity(settings), cache=None if cache is None else Path(cache))
    determined = {"settings": counted, "data": data_fingerprint}
    canonical = json.dumps(determined, sort_keys=True, separators=(",", ":"))
    return f"{method}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def _with_contents(settings: Mapping[str, Any], *, cache: Path | None, above: str = "") -> dict[str, Any]:
    """The nested settings with a digest of its content in place of each path that `CONTENTS` names."""
    replaced = partial(_content, cache=cache)
    kept: dict[str, Any] = {}
    for key, value in settings.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping):
            kept[key] = _with_contents(value, cache=cache, above=f"{path}.")
        elif path in CONTENTS:
            kept[key] = [replaced(one) for one in value] if isinstance(value, list) else replaced(value)
        else:
            kept[key] = value
    return kept


def _content(value: Any, *, cache: Path | None) -> Any:
    return (content_digest(Path(value), cache=cache) or value) if isinstance(value, str) else value
