"""The learning rate over the steps, by softcue's own schedules or any scheduler of torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from softcue.errors import ConfigError

SchedulerFactory = Callable[..., LRScheduler]


def make_scheduler(factory: SchedulerFactory, optimizer: Optimizer, *, total_steps: int) -> LRScheduler:
    """The scheduler, which steps after every update of the prompt.

    `total_steps` goes to a factory that takes it, and in place of a `T_max` of null.

    Raises:
        ConfigError: the factory does not take its settings, or waits for a metric.
    """
    target = factory.func if isinstance(factory, partial) else factory
    name = getattr(target, "__name__", str(target))
    if target is ReduceLROnPlateau:
        raise ConfigError(
            "scheduler is ReduceLROnPlateau, which waits for a metric; softcue's schedulers step after every "
            "update. Use scheduler=cosine, linear or constant, or callbacks=early_stopping."
        )
    given: dict[str, Any] = dict(factory.keywords) if isinstance(factory, partial) else {}
    if given.get("T_max", 0) is None:
        given["T_max"] = total_steps
    if "total_steps" in signature(target).parameters:
        given.setdefault("total_steps", total_steps)
    try:
        scheduler: LRScheduler = target(optimizer, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scheduler: {name} does not take these settings ({error}).") from error
    return scheduler
