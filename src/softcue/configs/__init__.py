"""The YAML: where it is, how it is composed, and which values it may hold."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_SHIPPED = _PACKAGE / "conf"

CONFIG_PATH: Path = _SHIPPED if _SHIPPED.is_dir() else _PACKAGE.parents[1] / "conf"
"""Inside an installed wheel; at the repository's root otherwise."""


def default_cache() -> str:
    """Where this machine keeps files that can be made again."""
    from omegaconf import OmegaConf

    return str(OmegaConf.load(CONFIG_PATH / "paths" / "default.yaml").cache)
