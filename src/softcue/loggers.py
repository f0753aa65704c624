"""Loggers that need a decision before they start."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger


def wandb_logger(*, project: str, save_dir: str) -> WandbLogger:
    """A W&B run in `save_dir`: online with an API key, else offline until `wandb sync`."""
    offline = os.environ.get("WANDB_MODE") == "offline" or not _has_key()
    return WandbLogger(project=project, save_dir=save_dir, name=Path(save_dir).name, offline=offline)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text()
