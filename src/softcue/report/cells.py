"""Runs to cells: those that differ only in what is repeated, such as the seed, are one cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from softcue.runs.identity import DECLARATIONS, identity
from softcue.runs.record import RunRecord

REPEATED = ("seed", "*.seed", "split.fold")
"""Settings, as patterns of their paths, in which the runs of one cell may differ."""

_BEFORE_DECLARATIONS = (
    "paths.*",
    "logger.*",
    "callbacks.*",
    "hydra.*",
    "trainer.default_root_dir",
    "threads",
)
"""What determines no result in a record that declares nothing: one that was written before declarations."""

_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Settings by dotted path: those that the runs of a cell have in common, and those of one run alone."""

    common: Mapping[str, Any]
    replicate: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The method, and a digest of the common settings."""
        canonical = json.dumps(self.common, sort_keys=True, default=str)
        return f"{self.common['method']}-{hashlib.sha256(canonical.encode()).hexdigest()[:8]}"


def variant(record: RunRecord, *, repeated: Sequence[str] = REPEATED) -> Variant:
    """Divide the settings of a record into those its cell has in common and its own."""
    counted = {path: _plain(path, value) for path, value in identity(record.settings).items()}
    if DECLARATIONS not in record.settings:
        counted = {path: value for path, value in counted.items() if not _matches(path, _BEFORE_DECLARATIONS)}
    own = {path for path in counted if _matches(path, repeated)}
    facts = {
        "method": record.method,
        "task": record.task,
        "backbone": record.backbone,
        "data_fingerprint": record.data_fingerprint,
    }
    return Variant(
        common=facts | {path: value for path, value in counted.items() if path not in own},
        replicate={"seed": record.seed} | {path: counted[path] for path in counted if path in own},
    )


def differing(variants: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paths in which some differ from the first, in its order; a null is not an absent setting."""
    several = list(variants)
    paths: dict[str, None] = {}
    for other in several[1:]:
        for path in (*several[0], *other):
            if several[0].get(path, _ABSENT) != other.get(path, _ABSENT):
                paths[path] = None
    order = {path: at for at, path in enumerate(dict.fromkeys(path for one in several for path in one))}
    return sorted(paths, key=order.__getitem__)


def short_replicates(replicates: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Each run's replicate by the seed and what else varies; what each seed has its own of is left out."""
    paths = dict.fromkeys(path for one in replicates for path in one)
    shown = [
        path
        for path in paths
        if path == "seed"
        or (len({str(one.get(path)) for one in replicates}) > 1 and not _one_for_each_seed(path, replicates))
    ]
    return [{path: text_of(one[path]) for path in shown if path in one} for one in replicates]


def _one_for_each_seed(path: str, replicates: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting says no more than the seed: one value for each, and no two seeds share one."""
    pairs = {(str(one.get("seed")), str(one[path])) for one in replicates if path in one}
    seeds, values = ({pair[at] for pair in pairs} for at in (0, 1))
    return len(pairs) == len(seeds) == len(values)


def text_of(value: Any) -> str:
    """A setting as a table shows it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _plain(path: str, value: Any) -> Any:
    """A class by its own name: modules move between versions."""
    is_class = path.rpartition(".")[2] == "_target_" and isinstance(value, str)
    return value.rpartition(".")[2] if is_class else value


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
