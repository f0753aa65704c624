"""The folder of YAML files: beside this file in an installed wheel, else at the repository's root."""

from pathlib import Path

_INSTALLED = Path(__file__).parent / "conf"

CONFIG_PATH: Path = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "conf"
