"""What a model is, from its config.json alone: no weights, no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softcue.errors import BackboneError
from softcue.hub import HubError, HubRepo

EMBEDDED: Mapping[str, Any] = {"num_hidden_layers": 30}
"""SmolLM2-135M, whose file has no config.json."""


def is_encoder_decoder(backbone: Mapping[str, Any]) -> bool | None:
    """For the settings of a backbone; None if its config.json is not on this machine yet, or is damaged."""
    config = _config(backbone)
    return None if config is None else bool(config.get("is_encoder_decoder", False))


def num_layers(backbone: Mapping[str, Any]) -> int | None:
    """How many layers a decoder has; None where its config.json is not at hand, or names them otherwise."""
    config = _config(backbone) or {}
    counts = (config.get(name) for name in ("num_hidden_layers", "n_layer", "num_layers"))
    return next((count for count in counts if isinstance(count, int)), None)


def model_place(path: str) -> Path:
    """The folder or GGUF file of a model on this machine.

    Raises:
        BackboneError: it is not there, or is a folder of something else.
    """
    place = Path(os.path.expanduser(path))  # noqa: PTH111 (Path.expanduser raises for unknown users)
    if not (place.is_dir() or place.is_file()):
        raise BackboneError(f"backbone.path={path} does not exist; give a model folder or a .gguf file.")
    if place.is_dir() and not (place / "config.json").is_file():
        raise BackboneError(f"backbone.path={path} has no config.json; give a Hugging Face model folder.")
    return place


def _config(backbone: Mapping[str, Any]) -> Mapping[str, Any] | None:
    try:
        if backbone.get("path") is not None:
            folder = Path(str(backbone["path"])).expanduser()
            file = folder / "config.json" if folder.is_dir() else None
        elif backbone.get("repo") is not None:
            place = HubRepo(name=backbone["repo"], kind="model", revision=backbone["revision"])
            file = place.cached("config.json")
            if file is None:
                return None
        else:
            return EMBEDDED
        if file is None:
            return {}  # a GGUF file holds a decoder
        config = json.loads(file.read_bytes())
    except (HubError, OSError, RuntimeError, ValueError):
        return None
    return config if isinstance(config, dict) else None
