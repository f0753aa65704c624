"""Hydra's `instantiate` with errors of ours: the only place that makes objects of settings."""

from __future__ import annotations

from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from softcue.errors import ConfigError, SoftcueError
from softcue.runs.identity import DECLARATIONS, without_declarations


def make_each(group: DictConfig | None) -> list[Any]:
    """The objects of a group that holds several by name; null leaves one out, or all."""
    return [make(node) for name, node in (group or {}).items() if node and name != DECLARATIONS]


def make(node: DictConfig, **settings: object) -> Any:
    """Hydra's `instantiate`, with our own errors as they were raised."""
    try:
        plain = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
        return instantiate(without_declarations(plain), **settings)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SoftcueError):
            raise cause from None
        if cause is None or not _is_of_settings(cause):
            raise
        place, target = node._get_full_key(None) or "settings", node.get("_target_")
        if isinstance(cause, ImportError):
            raise ConfigError(
                f"{place}: {target} is not found ({cause.__cause__ or cause}). Correct _target_, or put the "
                "folder of its package on PYTHONPATH."
            ) from error
        raise ConfigError(f"{place}: {target} does not take these settings ({cause}).") from error


def _is_of_settings(cause: BaseException) -> bool:
    """Whether an object refused its settings: an unknown name, a class that is not there, a wrong value."""
    return type(cause).__name__ == "MisconfigurationException" or isinstance(
        cause, TypeError | ValueError | ImportError
    )
