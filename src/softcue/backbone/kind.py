"""Whether a model has an encoder and a decoder, from its config.json alone: no weights, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from softcue.hub import HubError, HubRepo


def is_encoder_decoder(backbone: Mapping[str, Any]) -> bool | None:
    """For the settings of a backbone; None if its config.json is not on this machine yet, or is damaged."""
    try:
        if backbone.get("path") is not None:
            folder = Path(str(backbone["path"])).expanduser()
            config = folder / "config.json" if folder.is_dir() else None  # a GGUF file holds a decoder
        elif backbone.get("repo") is not None:
            place = HubRepo(name=backbone["repo"], kind="model", revision=backbone["revision"])
            config = place.cached("config.json")
            if config is None:
                return None
        else:
            config = None  # what is embedded is a decoder
        if config is None:
            return False
        return bool(json.loads(config.read_bytes()).get("is_encoder_decoder", False))
    except (HubError, OSError, RuntimeError, ValueError, AttributeError):
        return None
