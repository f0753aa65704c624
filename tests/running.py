"""Runs as tests start them."""

from __future__ import annotations

from omegaconf import DictConfig

from softcue.execute import train
from softcue.runs.store import RunFolder


def train_one(config: DictConfig) -> RunFolder:
    """Train the only run of a config; its folder."""
    (folder,) = train(config)
    return folder
