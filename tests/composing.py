"""Configs composed as the entry points compose them."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from softcue.configs import CONFIG_PATH


def train_config(*overrides: str) -> DictConfig:
    """What `softcue-train OVERRIDES` would run."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        return compose(config_name="train", overrides=list(overrides))


def options(group: str) -> list[str]:
    """The YAML files of a group, as they are chosen on the command line."""
    return sorted(path.stem for path in (CONFIG_PATH / group).glob("[!_]*.yaml"))
