"""The folder of a hub model in the hub's cache, complete: nothing is asked of the hub if it is there."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from pathlib import Path

from softcue.errors import BackboneError
from softcue.hub import HubError, HubRepo

WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
"""In the order of preference: a single file, or an index and what it lists."""
OTHERS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
    *("chat_template.jinja", "adapter_config.json"),
)


def model_folder(repo: str, revision: str) -> Path:
    """The folder of a model's files; those that are missing are fetched.

    Raises:
        BackboneError: the hub does not give them, or they are no model.
    """
    place = HubRepo(name=repo, kind="model", revision=revision)
    try:
        config = place.cached("config.json")
        if config is not None and _has_weights(config.parent):
            return config.parent
        return place.fetch(_needed)[0].parent
    except HubError as error:
        raise BackboneError(
            f"backbone.repo={repo}: {error}. Without the hub, run what is embedded, backbone=smollm2_135m "
            "data=airline_complaints (experiment=quickstart is both), or give a downloaded copy with "
            "backbone=local backbone.path=FOLDER."
        ) from error


def _needed(names: Sequence[str]) -> list[str]:
    """The files to fetch, the weights last: where they are, all is there."""
    others = _matching(names, OTHERS)
    weights: list[str] = next(filter(None, (_matching(names, patterns) for patterns in WEIGHTS)), [])
    if "config.json" not in others or not weights:
        raise HubError(
            f"it holds no config.json or no weights as transformers saves them ({sorted(names)!s:.200})"
        )
    single = [name for name in weights if name in (patterns[0] for patterns in WEIGHTS)]
    return [*others, *(single or weights)]


def _matching(names: Collection[str], patterns: Collection[str]) -> list[str]:
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns) and "/" not in name]


def _has_weights(folder: Path) -> bool:
    for single, index, _ in WEIGHTS:
        if (folder / single).is_file():
            return True
        if (folder / index).is_file():
            shards = set(json.loads((folder / index).read_bytes())["weight_map"].values())
            return all((folder / shard).is_file() for shard in shards)
    return False
