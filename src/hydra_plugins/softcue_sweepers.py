"""Hydra's sweeper plugins; softcue.sweep does the work and is imported when a sweep begins."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from softcue.sweep.runner import Runner


class _Sweeper(Sweeper):
    """The common part: make a runner, and print a user's mistake as one line."""

    def __init__(self, *, max_batch_size: int | None, **settings: Any) -> None:
        self.max_batch_size, self.settings = max_batch_size, settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.started = (hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Any:
        from softcue.cli import print_error
        from softcue.errors import SoftcueError
        from softcue.sweep.runner import Runner

        plain = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in self.settings.items()
        }
        try:
            return self.run(Runner.from_hydra(*self.started), arguments, **plain)
        except SoftcueError as error:
            raise print_error(error) from error

    @abstractmethod
    def run(self, runner: Runner, arguments: list[str], **settings: Any) -> Any:
        """Run the sweep with its settings."""


class GridSweeper(_Sweeper):
    """Runs every combination of the values that commas or ranges name."""

    def run(self, runner: Runner, arguments: list[str], **settings: Any) -> Any:
        from softcue.sweep.grid import run_grid

        return run_grid(runner, settings["params"] or {}, arguments)


class BudgetSweeper(_Sweeper):
    """Runs the same number of trials for each method, then each one's best again."""

    def run(self, runner: Runner, arguments: list[str], **settings: Any) -> Any:
        from softcue.sweep.budget import Budget, run_budget

        return run_budget(runner, Budget(**settings), arguments)


class SearchSweeper(_Sweeper):
    """Runs trials that Optuna proposes."""

    def run(self, runner: Runner, arguments: list[str], **settings: Any) -> Any:
        from hydra.utils import instantiate

        from softcue.errors import ConfigError

        try:
            from softcue.sweep.search import run_search
        except ModuleNotFoundError as error:
            raise ConfigError(f"a search needs {error.name}: pip install 'softcue[search]'.") from error

        settings["params"] = settings["params"] or {}
        # Optuna keeps no pruner in a study, so the study gets the one that the runs are configured with.
        pruner = instantiate(self.started[2].search.pruner)
        return run_search(runner, arguments=arguments, pruner=pruner, **settings)
