"""The frozen model of a config."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from omegaconf import DictConfig, OmegaConf

from softcue.build.instantiate import make
from softcue.configs import default_cache
from softcue.runs.contents import content_digest

if TYPE_CHECKING:
    from softcue.backbone.base import Backbone

log = logging.getLogger(__name__)


def build_backbone(config: DictConfig) -> Backbone:
    """The frozen model; consecutive runs of a process with the same weights share it."""
    path, cache = config.backbone.get("path"), Path(config.paths.cache or default_cache())
    digest = None if path is None else content_digest(Path(path), cache=cache)
    lm = _backbone(OmegaConf.to_yaml(config.backbone, resolve=True), digest)
    log.info(lm.choice)  # here, because each run has a log of its own
    lm.limit_cache(config.cache.budget_gb)
    return lm


@lru_cache(maxsize=1)
def _backbone(config_yaml: str, digest: str | None) -> Backbone:
    return cast("Backbone", make(cast(DictConfig, OmegaConf.create(config_yaml))))
