"""A task, or several, with their rows, from a config."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf

from softcue.build.instantiate import make
from softcue.data.assumed import READABLE, Assumed, assume
from softcue.data.mixture import MixedData
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Batching, RunData
from softcue.data.task import Task
from softcue.runs.contents import content_digest

if TYPE_CHECKING:
    pass


def build_data(config: DictConfig) -> RunData:
    """The rows of the task, or of several, under the prompt's layout; not yet read."""
    fill_tasks(config)
    data = config.data
    batching = Batching(
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        padding=data.padding,
        order=data.order,
        seed=config.seed,
        num_workers=data.num_workers,
    )
    if "tasks" not in data:
        return _task_data(config, data, batching, prompt=0)
    tasks = {
        str(name): _task_data(config, node, batching, prompt=prompt)
        for prompt, (name, node) in enumerate(data.tasks.items())
    }
    return MixedData(name=data.name, tasks=tasks, temperature=data.temperature, batching=batching)


def fill_tasks(config: DictConfig) -> list[str]:
    """Read a task's settings that are null from its table; a line for each that a user may want to change.

    Raises:
        SoftcueError: a table or label column from which they cannot be read.
    """
    lines: list[str] = []
    for node in config.data.get("tasks", {"": config.data}).values():
        if OmegaConf.missing_keys(node) or all(node.task.get(key, "") is not None for key in READABLE):
            continue
        path = node.source.get("path")
        digest = None if path is None else content_digest(Path(path), cache=None)
        task, source = (OmegaConf.to_yaml(part, resolve=True) for part in (node.task, node.source))
        assumed = _assumed(task, source, digest)
        for key, value in assumed.settings.items():
            node.task[key] = value
        lines += assumed.lines
    return lines


@lru_cache(maxsize=8)
def _assumed(task_yaml: str, source_yaml: str, digest: str | None) -> Assumed:
    """`assume`, once for the many jobs of a sweep that read the same file."""
    task = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(task_yaml)))
    return assume(task, make(cast(DictConfig, OmegaConf.create(source_yaml))))


def _task_data(config: DictConfig, node: DictConfig, batching: Batching, *, prompt: int) -> PromptData:
    return PromptData(
        source=make(node.source),
        task=build_task(node),
        layout=config.prompt.layout,
        splitter=make(config.split),
        batching=batching,
        max_length=node.max_length,
        cache_dir=config.paths.cache,
        prompt=prompt,
        max_target_length=node.get("max_target_length", config.data.max_target_length),
        num_unlabelled=config.data.train_unlabelled,
    )


def build_task(node: DictConfig) -> Task:
    """The columns, classes and label words that a config of data names."""
    return cast(Task, make(node.task))
