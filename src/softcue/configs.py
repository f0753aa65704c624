"""Where the YAML lives: beside this file in an installed wheel, at the repository's root otherwise."""

from __future__ import annotations

from pathlib import Path

_SHIPPED = Path(__file__).parent / "conf"

CONFIG_PATH: Path = _SHIPPED if _SHIPPED.is_dir() else Path(__file__).parents[2] / "conf"


def default_cache() -> str:
    """Where this machine keeps what can be made again."""
    from omegaconf import OmegaConf

    return str(OmegaConf.load(CONFIG_PATH / "paths" / "default.yaml").cache)
