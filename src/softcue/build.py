"""Config to objects: the only place that instantiates."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from softcue.backbone.base import Backbone
from softcue.baselines.tfidf import TfidfLogisticRegression
from softcue.configs import default_cache
from softcue.contracts import BackboneSpec, SoftPrompt
from softcue.data.datamodule import PromptData
from softcue.data.labels import never_chosen
from softcue.data.mixture import MixedData
from softcue.data.task import Task
from softcue.data.template import Soft, Template
from softcue.errors import ConfigError, SoftcueError
from softcue.evaluation.scoring import Scoring
from softcue.runs.contents import content_digest
from softcue.training.learners import Learner, PromptLearner, TextBaseline
from softcue.training.module import PromptModule
from softcue.training.resume import LastState

log = logging.getLogger(__name__)


def build_data(settings: DictConfig) -> PromptData | MixedData:
    """The rows of the task, or of several, under the prompt's layout; not yet read."""
    data = settings.data
    if "tasks" not in data:
        return _task_data(settings, data, data, prompt=0)
    return MixedData(
        name=data.name,
        tasks={
            str(name): _task_data(settings, data, node, prompt=prompt)
            for prompt, (name, node) in enumerate(data.tasks.items())
        },
        temperature=data.temperature,
        batch_size=data.batch_size,
        order=data.order,
        num_workers=data.num_workers,
        seed=settings.seed,
    )


def _task_data(settings: DictConfig, data: DictConfig, task: DictConfig, *, prompt: int) -> PromptData:
    """A task's rows; how they become batches is the same for all tasks of `data`."""
    return PromptData(
        source=_make(task.source),
        task=build_task(task),
        layout=settings.prompt.layout,
        splitter=_make(settings.split),
        batch_size=data.batch_size,
        eval_batch_size=data.eval_batch_size,
        max_length=task.max_length,
        padding=data.padding,
        order=data.order,
        seed=settings.seed,
        cache_dir=settings.paths.cache,
        num_workers=data.num_workers,
        prompt=prompt,
    )


def build_learner(settings: DictConfig, data: PromptData | MixedData) -> Learner:
    """The method under study, ready to fit; `paths.run` must be set by now."""
    method = _make(settings.prompt.method)
    if isinstance(method, TfidfLogisticRegression):
        if isinstance(data, MixedData):
            raise ConfigError(f"prompt {settings.prompt.name} learns one task, and data.tasks are several.")
        return TextBaseline(classifier=method, data=data)
    return build_prompt_learner(settings, data)


def build_prompt_learner(settings: DictConfig, data: PromptData | MixedData) -> PromptLearner:
    """A soft prompt on its frozen model, ready to fit.

    Raises:
        ConfigError: the method is a baseline that has no prompt.
    """
    lm, prompt = build_prompted_backbone(settings, data)
    module = PromptModule(
        lm=lm,
        prompt=prompt,
        classes={name: task.task.classes for name, task in data.tasks.items()},
        objective=_make(settings.objective),
        scoring=build_scoring(settings),
        optimizer=_make(settings.optimizer),
        scheduler=_make(settings.scheduler),
        seed=settings.seed,
    )
    return PromptLearner(module=module, data=data, trainer=build_trainer(settings))


def build_prompted_backbone(
    settings: DictConfig, data: PromptData | MixedData
) -> tuple[Backbone, SoftPrompt]:
    """The frozen model and the prompt at its start; `data` is encoded for them."""
    lm = build_backbone(settings)
    prompt = build_prompt(settings, lm.spec, data.template)
    data.encode(lm.tokenizer, lm.spec.max_positions, padded=lm.takes_padded_rows)
    if not build_scoring(settings).per_token:
        _warn_of_never_chosen(data)
    return lm, prompt


def _warn_of_never_chosen(data: PromptData | MixedData) -> None:
    for name, task in data.tasks.items():
        for first, second in never_chosen(task.task, task.choices):
            log.warning(
                "%s: the label of class %r begins with that of class %r, so under scoring=sum it is never "
                "more likely. Set data.task.end_token=true or scoring=mean, or choose other label words.",
                *(name, second, first),
            )


def build_backbone(settings: DictConfig) -> Backbone:
    """The frozen model; loaded once for all runs of a process that ask for the same weights."""
    path, cache = settings.backbone.get("path"), Path(settings.paths.cache or default_cache())
    digest = None if path is None else content_digest(Path(path), cache=cache)
    lm = _backbone(OmegaConf.to_yaml(settings.backbone, resolve=True), digest)
    lm.limit_cache(settings.cache.budget_gb)
    return lm


@lru_cache(maxsize=1)
def _backbone(settings_yaml: str, digest: str | None) -> Backbone:
    return cast(Backbone, _make(cast(DictConfig, OmegaConf.create(settings_yaml))))


def build_prompt(settings: DictConfig, spec: BackboneSpec, template: Template) -> SoftPrompt:
    """The prompt at its start: as many virtual tokens as the final template holds."""
    generator = torch.Generator().manual_seed(settings.seed)
    count = template.num_virtual_tokens
    method = _make(settings.prompt.method)
    if isinstance(method, TfidfLogisticRegression):
        raise ConfigError(f"prompt {settings.prompt.name} reads whole texts and has no rows of tokens.")
    if count == 0:
        prompt: SoftPrompt = method()
        return prompt
    prompt = method(spec=spec, num_virtual_tokens=count, generator=generator)
    _expect_place(settings, template, in_layers=prompt.in_layers)
    return prompt


def expect_possible(settings: DictConfig, data: PromptData | MixedData) -> None:
    """Refuse a method that the layout has no place for, and callbacks without rows to watch.

    It reads no model, so that a sweep can ask it for every job before the first one starts.
    """
    method = _make(settings.prompt.method)
    in_layers = isinstance(method, partial) and getattr(method.func, "in_layers", False)
    _expect_place(settings, data.template, in_layers=in_layers)
    for callback in settings.callbacks.values():
        monitor = (callback or {}).get("monitor")
        if monitor is not None:
            _expect_validation_metric(monitor, has_validation=len(data.ids("validation")) > 0)


def _expect_place(settings: DictConfig, template: Template, *, in_layers: bool) -> None:
    count = template.num_virtual_tokens
    if in_layers and template.segments[0] != Soft(num_tokens=count):
        raise ConfigError(
            f"prompt.layout is {settings.prompt.layout!r}, but {settings.prompt.name} puts keys and values "
            f'in front of the row in every layer and can stand nowhere else; write "[soft:{count}]{{input}}".'
        )


def build_task(node: DictConfig) -> Task:
    """The columns, classes and label words that a config of data names."""
    return cast(Task, _make(node.task))


def build_scoring(settings: DictConfig) -> Scoring:
    """How label likelihoods become class probabilities."""
    return cast(Scoring, _make(settings.scoring))


def build_trainer(settings: DictConfig) -> Trainer:
    """Lightning's Trainer with the configured callbacks and loggers."""
    callbacks: list[Callback] = [_make(callback) for callback in settings.callbacks.values() if callback]
    if settings.search.trial is not None:
        callbacks.append(_make(settings.search))
    loggers: list[Logger] = [_make(logger) for logger in (settings.logger or {}).values()]
    for logger in loggers:
        resolved = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
        # By these three a sweep's runs are grouped and filtered.
        apart = {"method": settings.prompt.name, "seed": settings.seed, "fold": settings.split.get("fold")}
        logger.log_hyperparams({**resolved, **apart})
    trainer: Trainer = _make(settings.trainer, callbacks=callbacks, logger=loggers)
    return trainer


def expect_one_process(settings: DictConfig) -> None:
    """Refuse to train runs together over several processes: each would start, and lock, all of them.

    Raises:
        ConfigError: the settings that ask for several.
    """
    trainer: Trainer = _make(settings.trainer, logger=False, enable_checkpointing=False, callbacks=[])
    if trainer.world_size > 1:
        asked = {name: settings.trainer.get(name) for name in ("devices", "num_nodes", "strategy")}
        raise ConfigError(
            f"packed trains runs together in one process, and trainer ({asked}) makes {trainer.world_size}. "
            "Set trainer.devices=1, or train the runs one after another, as with -m seed=0,1."
        )


def build_joint_trainer(settings: DictConfig, path: Path) -> Trainer:
    """The Trainer of several runs that train together; what each would log alone, it logs afterwards.

    `path` is where it keeps the state that they go on from.
    """
    callbacks: list[Callback] = [_make(callback) for callback in settings.callbacks.values() if callback]
    for callback in callbacks:
        if isinstance(callback, EarlyStopping) or getattr(callback, "monitor", None):
            raise ConfigError(
                f"callbacks hold {type(callback).__name__}, which chooses by one run's validation metric; "
                "runs that train together (packed) end together. Use callbacks=default."
            )
    kept = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
    states = [callback for callback in kept if isinstance(callback, LastState)]
    for state in states:
        state.path = path
    trainer: Trainer = _make(
        settings.trainer, callbacks=kept, logger=False, enable_checkpointing=bool(states)
    )
    return trainer


def _expect_validation_metric(monitor: str, *, has_validation: bool) -> None:
    """A run is steered by validation rows, never by test rows."""
    if monitor.startswith("train/"):
        return
    if not monitor.startswith("validation/"):
        raise ConfigError(
            f"callbacks monitor {monitor!r}; only validation/ metrics may choose a checkpoint or an end of "
            "training, such as validation/macro_f1 or validation/loss."
        )
    if not has_validation:
        raise ConfigError(
            f"callbacks monitor {monitor!r}, but there are no validation rows; set split.num_validation, "
            "or callbacks=default to train for trainer.max_epochs."
        )


def _make(node: DictConfig, **settings: object) -> Any:
    """Hydra's `instantiate`, with our own errors as they were raised."""
    try:
        return instantiate(node, **settings)
    except InstantiationException as error:
        if isinstance(error.__cause__, SoftcueError):
            raise error.__cause__ from None
        raise
