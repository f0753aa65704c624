"""Where Hydra looks for sweepers; the work is done in softcue.sweep, imported when a sweep begins."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Every combination of the values that commas or ranges name."""

    def __init__(self, *, params: dict[str, str] | None, max_batch_size: int | None) -> None:
        self.params, self.max_batch_size = dict(params or {}), max_batch_size

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        from softcue.cli import ended
        from softcue.errors import SoftcueError
        from softcue.sweep.grid import run_grid
        from softcue.sweep.runner import Runner

        try:
            return run_grid(Runner.of(self), self.params, arguments)
        except SoftcueError as error:
            raise ended(error) from error
