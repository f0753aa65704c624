"""From a config to objects: the only place that instantiates."""

from __future__ import annotations

import copy
import logging
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from softcue.configs import default_cache
from softcue.configs.combinations import expect_possible
from softcue.data.assumed import READABLE, Assumed, assume
from softcue.data.chat import Turn
from softcue.data.labels import never_chosen
from softcue.data.mixture import MixedData
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Batching, RunData
from softcue.data.task import Task
from softcue.data.template import Soft, Template
from softcue.errors import ConfigError, SoftcueError
from softcue.runs.contents import content_digest
from softcue.runs.identity import DECLARATIONS, without_declarations

# Imported where they are used: torch and Lightning take seconds, and a dry run needs neither.
if TYPE_CHECKING:
    import torch
    from lightning import Callback, Trainer
    from lightning.pytorch.loggers import Logger
    from torch import Tensor

    from softcue.backbone.base import Backbone
    from softcue.contracts import BackboneSpec, Batch, Decoding, SoftPrompt, TrainingRows
    from softcue.evaluation.metrics import MetricFactory
    from softcue.evaluation.scoring import Scoring
    from softcue.training.learner import Learner
    from softcue.training.run import Run

log = logging.getLogger(__name__)

TEXT_MONITORS = ("train/loss", "validation/loss", "validation/perplexity")
"""What callbacks may monitor where the target is a text: texts are generated when training has ended."""


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
    return assume(task, _make(cast(DictConfig, OmegaConf.create(source_yaml))))


def _task_data(config: DictConfig, node: DictConfig, batching: Batching, *, prompt: int) -> PromptData:
    return PromptData(
        source=_make(node.source),
        task=build_task(node),
        layout=config.prompt.layout,
        splitter=_make(config.split),
        batching=batching,
        max_length=node.max_length,
        cache_dir=config.paths.cache,
        prompt=prompt,
        max_target_length=node.get("max_target_length", config.data.max_target_length),
    )


def build_learners(runs: Sequence[Run]) -> list[Learner]:
    """The learner of each run; those of soft prompts share a frozen model and a trainer."""
    from softcue.baselines.base import Baseline

    method = _make(runs[0].config.prompt.method)
    learners = _baselines(runs) if isinstance(method, Baseline) else _prompt_learners(runs)
    for learner, run in zip(learners, runs, strict=True):
        learner.own_metrics = _own_metrics(run.config)
        learner.decoding = build_decoding(run.config)
    return learners


def _baselines(runs: Sequence[Run]) -> list[Learner]:
    from softcue.baselines.adapters import Adapter
    from softcue.baselines.base import StateClassifier, TextClassifier
    from softcue.baselines.in_context import InContext
    from softcue.training.in_context import InContextLearner
    from softcue.training.probe import ProbeLearner
    from softcue.training.text_baseline import TextBaseline

    learners: list[Learner] = []
    for run in runs:
        method = _make(run.config.prompt.method)
        if isinstance(method, TextClassifier):
            learners.append(TextBaseline(classifier=method, data=run.data))
            continue
        _expect_no_virtual_tokens(run)
        if isinstance(method, Adapter):
            return _prompt_learners(runs)
        lm, device = build_backbone(run.config), _device(run.config)
        _encode(run.config, run.data, lm)
        if isinstance(method, StateClassifier):
            learners.append(ProbeLearner(lm=lm, classifier=method, data=run.data, device=device))
        else:
            assert isinstance(method, InContext)
            learners.append(InContextLearner(lm=lm, chooser=method, data=run.data, device=device))
    return learners


def _expect_no_virtual_tokens(run: Run) -> None:
    if run.data.template.num_virtual_tokens:
        raise ConfigError(
            f"prompt.layout is {run.data.layout!r}, and prompt={run.method} is a baseline without virtual "
            'tokens; write for instance "{input}".'
        )


def _device(config: DictConfig) -> torch.device:
    trainer = build_trainer(config, joint=False)
    return trainer.strategy.root_device


def _own_metrics(config: DictConfig) -> dict[str, MetricFactory]:
    return {str(name): _make(node) for name, node in config.metrics.items() if node}


def _prompt_learners(runs: Sequence[Run]) -> list[Learner]:
    from softcue.baselines.adapters import Adapter
    from softcue.training.adapter import AdapterLearner
    from softcue.training.evolution import Evolution
    from softcue.training.evolution_learner import EvolutionLearner
    from softcue.training.member import Member
    from softcue.training.prompt_learner import PromptLearner

    first = runs[0].config
    learners: list[Learner] = []
    objective, scoring = _make(first.objective), build_scoring(first)
    scheduler = _make(first.scheduler) if first.get("scheduler") else None
    trainer, optimizer = build_trainer(first, joint=len(runs) > 1), _make(first.optimizer)
    kind: Callable[..., Learner] = PromptLearner
    if isinstance(_make(first.prompt.method), Adapter):
        kind = AdapterLearner
    elif isinstance(optimizer, Evolution):
        optimizer.expect_one_process(trainer.world_size)
        kind = partial(EvolutionLearner, evolution=optimizer)
    for run in runs:
        build = build_adapted_backbone if kind is AdapterLearner else build_prompted_backbone
        lm, prompt = build(run.config, run.data)
        validated = [task.task.classes for task in run.data.tasks.values() if task.ids("validation")]
        member = Member(
            run_id=run.folder.path.name,
            prompt=prompt,
            seed=run.seed,
            optimizer=_make(run.config.optimizer),
            validated=validated,
            own_metrics=_own_metrics(run.config),
        )
        learner = kind(
            lm=lm,
            member=member,
            data=run.data,
            objective=objective,
            scoring=scoring,
            scheduler=scheduler,
            trainer=trainer,
            loggers=_loggers(run),
        )
        learners.append(learner)
    return learners


def build_prompted_backbone(config: DictConfig, data: RunData) -> tuple[Backbone, SoftPrompt]:
    """The frozen model and the untrained prompt; `data` is encoded for them.

    Raises:
        ConfigError: the method is a baseline without a prompt.
    """
    lm = build_backbone(config)
    if _asks_for_rows(_make(config.prompt.method)):
        _encode(config, data, lm)
        return lm, build_prompt(config, lm.spec, data.template, rows=_training_rows(config, data, lm))
    prompt = build_prompt(config, lm.spec, data.template)
    _encode(config, data, lm, in_layers=prompt.in_layers)
    return lm, prompt


def _asks_for_rows(method: object) -> bool:
    """A baseline is no class but an object, and asks for nothing."""
    return callable(method) and "rows" in signature(method).parameters


def _training_rows(config: DictConfig, data: RunData, lm: Backbone) -> TrainingRows:
    """The only task's training rows; `validate` has refused several tasks."""
    from softcue.contracts import TrainingRows
    from softcue.training.row_gradients import row_gradients

    (task,) = data.tasks.values()

    def gradients(embeddings_PD: Tensor) -> Tensor:
        batches = cast("list[Batch]", list(task.eval_dataloader("train")))
        placed = lm.to(_device(config))
        return row_gradients(placed, _make(config.objective), build_scoring(config), batches, embeddings_PD)

    return TrainingRows(demonstrations=task.demonstrations(), gradients=gradients)


def build_adapted_backbone(config: DictConfig, data: RunData) -> tuple[Backbone, SoftPrompt]:
    """The frozen model with an untrained adapter inside; `data` is encoded for it.

    The adapter changes the model's own forward, so the plain engine runs it.

    Raises:
        ConfigError: another engine, or a model that PEFT cannot adapt.
    """
    if config.backbone.engine == "stream":
        raise ConfigError(
            f"backbone.engine is stream, and prompt={config.prompt.name} changes the model's own forward: "
            "set backbone.engine=auto or plain."
        )
    plain = copy.deepcopy(config)
    plain.backbone.engine = "plain"
    lm = build_backbone(plain)
    _encode(config, data, lm)
    base_model = config.backbone.get("repo") or config.backbone.get("path") or config.backbone.name
    adapter = _make(config.prompt.method)
    return lm, adapter.inject(lm.model, base_model=base_model, seed=config.seed)


def _encode(config: DictConfig, data: RunData, lm: Backbone, *, in_layers: bool = False) -> None:
    turn = Turn.of(lm.tokenizer, prefix_first=in_layers) if lm.chat else None
    data.encode(lm.tokenizer, lm.spec.max_positions, padded=lm.takes_padded_rows, turn=turn)
    _expect_room(config, data, lm)
    if not build_scoring(config).per_token:
        _warn_of_never_chosen(data)


def _expect_room(config: DictConfig, data: RunData, lm: Backbone) -> None:
    """Refuse texts that the model could not finish, before it is trained."""
    decoding = build_decoding(config)
    if decoding is not None:
        longest = max(task.encoder.max_row_length for task in data.tasks.values())
        lm.expect_room(decoding, longest=longest, num_rows=data.batching.eval_batch_size)


def _warn_of_never_chosen(data: RunData) -> None:
    for name, task in data.tasks.items():
        for first, second in never_chosen(task.task, task.choices):
            log.warning(
                "%s: the label of class %r begins with that of class %r, so under scoring=sum it is never "
                "more likely. Set data.task.end_token=true or scoring=mean, or choose other label words.",
                *(name, second, first),
            )


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
    return cast("Backbone", _make(cast(DictConfig, OmegaConf.create(config_yaml))))


def build_prompt(
    config: DictConfig, spec: BackboneSpec, template: Template, *, rows: TrainingRows | None = None
) -> SoftPrompt:
    """The untrained prompt, with as many virtual tokens as the template has; some methods ask for `rows`."""
    import torch

    from softcue.baselines.base import Baseline

    generator = torch.Generator().manual_seed(config.seed)
    count = template.num_virtual_tokens
    method = _make(config.prompt.method)
    if isinstance(method, Baseline):
        raise ConfigError(f"prompt={config.prompt.name} is a baseline: it has no soft prompt.")
    if count == 0:
        needed = [
            given for given in signature(method).parameters.values() if given.kind is given.KEYWORD_ONLY
        ]
        if any(given.default is given.empty for given in needed):
            raise ConfigError(
                f"prompt.layout is {config.prompt.layout!r}, which holds no virtual tokens for "
                f'{config.prompt.name}; write for instance "[soft:20]{{input}}", or use prompt=hard_prompt.'
            )
        prompt: SoftPrompt = method()
        return prompt
    asked = {"rows": rows} if _asks_for_rows(method) else {}
    prompt = method(spec=spec, num_virtual_tokens=count, generator=generator, **asked)
    _expect_place(config, template, prompt)
    return prompt


def validate(config: DictConfig, data: RunData) -> None:
    """Refuse a method that the layout has no place for or no virtual tokens for, and callbacks without rows.

    This needs no model, so a sweep checks all jobs before it starts the first.

    Raises:
        ConfigError: the settings that contradict each other.
    """
    has_texts = any(task.has_texts for task in data.tasks.values())
    if has_texts or config.data.get("decoding") is not None:
        _expect_generation(config, has_texts=has_texts)
    template = data.template
    # Where nothing can be wrong, the class is not imported: that takes seconds.
    if template.num_virtual_tokens > 0 and (not _is_prefix(template) or len(data.tasks) > 1):
        _expect_method_fits(config, data, _make(config.prompt.method))
    plain = cast(dict[str, Any], OmegaConf.to_container(config.prompt.method, resolve=True))
    expect_possible(plain, num_virtual_tokens=data.template.num_virtual_tokens)
    for callback in (config.get("callbacks") or {}).values():
        monitor = (callback or {}).get("monitor")
        if monitor is not None:
            _expect_validation_metric(monitor, has_validation=len(data.ids("validation")) > 0)
            if has_texts and monitor not in TEXT_MONITORS:
                raise ConfigError(
                    f"callbacks monitor {monitor!r}, and the target is a text; choose one of "
                    f"{', '.join(TEXT_MONITORS)}."
                )


def _expect_generation(config: DictConfig, *, has_texts: bool) -> None:
    """Refuse what needs classes in a run on texts, and a method that writes none."""
    from softcue.baselines.adapters import Adapter
    from softcue.baselines.base import Baseline

    method, what = (
        _make(config.prompt.method),
        "data.task.target is a text" if has_texts else "data.decoding is set",
    )
    if isinstance(method, Baseline) and not isinstance(method, Adapter):
        raise ConfigError(
            f"{what}, and prompt={config.prompt.name} only chooses among classes. Use a soft prompt, LoRA or "
            "IA3."
        )
    build_decoding(config)
    if not has_texts:
        return
    scoring, objective = config.scoring, get_class(config.objective._target_)
    for key, is_given, way_out in (
        ("objective", getattr(objective, "needs_classes", False), "objective=language_model"),
        ("scoring.calibration", scoring.get("calibration") is not None, "scoring=sum"),
        ("scoring.also", bool(scoring.get("also")), "scoring=sum"),
        ("metrics", any(config.metrics.values()), "metrics={}"),
    ):
        if is_given:
            raise ConfigError(f"{key} needs classes, and data.task.target is a text. Set {way_out}.")


def _is_prefix(template: Template) -> bool:
    return template.segments[0] == Soft(num_tokens=template.num_virtual_tokens)


def _expect_method_fits(config: DictConfig, data: RunData, method: object) -> None:
    """Refuse a layout or tasks that a method cannot have, as far as its class tells."""
    if not isinstance(method, partial):
        return
    _expect_place(config, data.template, method.func)
    if _asks_for_rows(method) and len(data.tasks) > 1:
        raise ConfigError(
            f"prompt={config.prompt.name} reads the training rows of one task, and data.tasks has "
            f"{len(data.tasks)}: {', '.join(data.tasks)}. Choose one of them as data."
        )


def _expect_place(config: DictConfig, template: Template, prompt: object) -> None:
    """Refuse another layout for a method, given as its class or object, that belongs in front of the row."""
    count = template.num_virtual_tokens
    if getattr(prompt, "in_one_slot", False) and Soft(num_tokens=count) not in template.segments:
        raise ConfigError(
            f"prompt.layout is {config.prompt.layout!r}, but {config.prompt.name} needs its virtual tokens "
            f'in one slot; write for instance "[soft:{count}]{{input}}".'
        )
    in_layers, in_front = (getattr(prompt, name, False) for name in ("in_layers", "in_front"))
    if (in_layers or in_front) and not _is_prefix(template):
        what = "puts keys and values" if in_layers else "stands"
        raise ConfigError(
            f"prompt.layout is {config.prompt.layout!r}, but {config.prompt.name} {what} in front of the row "
            f'and nowhere else; write "[soft:{count}]{{input}}".'
        )


def _expect_validation_metric(monitor: str, *, has_validation: bool) -> None:
    """Refuse callbacks that would choose by other rows than validation rows."""
    if monitor.startswith("train/"):
        return
    if not monitor.startswith("validation/"):
        raise ConfigError(
            f"callbacks monitor {monitor!r}; only validation/ metrics, such as validation/macro_f1 or "
            "validation/loss, may choose a checkpoint or the end of training."
        )
    if not has_validation:
        raise ConfigError(
            f"callbacks monitor {monitor!r}, but there are no validation rows; set split.num_validation, "
            "or callbacks=default to train for trainer.max_epochs."
        )


def build_task(node: DictConfig) -> Task:
    """The columns, classes and label words that a config of data names."""
    return cast(Task, _make(node.task))


def build_scoring(config: DictConfig) -> Scoring:
    """How label likelihoods become class probabilities."""
    return cast("Scoring", _make(config.scoring))


def build_decoding(config: DictConfig) -> Decoding | None:
    """How texts are generated after rows; None: not at all."""
    node = config.data.get("decoding")
    return None if node is None else cast("Decoding", _make(node))


def build_trainer(config: DictConfig, *, joint: bool) -> Trainer:
    """Lightning's Trainer with the configured callbacks; for one run or several; without loggers."""
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar

    from softcue.training.checkpoints import SealedCheckpoints

    callbacks: list[Callback] = _make_each(config.get("callbacks"))
    if not (config.trainer.get("enable_progress_bar", True) and sys.stdout.isatty()):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    shows = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if config.search.trial is not None and not joint:
        callbacks.append(_make(config.search))
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    trainer: Trainer = _make(
        config.trainer,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=saves,
        # Without a bar of ours, Lightning would add its own.
        enable_progress_bar=shows,
        max_steps=-1 if (limit := config.trainer.get("max_steps")) is None else limit,
    )
    trainer.strategy.checkpoint_io = SealedCheckpoints()
    return trainer


def expect_joint(config: DictConfig) -> None:
    """Refuse settings with which several runs cannot train jointly.

    Raises:
        ConfigError: several processes, a callback that monitors one run, or an adapter.
    """
    from softcue.baselines.adapters import Adapter

    if isinstance(_make(config.prompt.method), Adapter):
        raise ConfigError(
            f"joint trains runs together on one frozen model, and prompt={config.prompt.name} changes the "
            "model itself. Train the runs one after another, as with -m seed=0,1."
        )
    trainer = build_trainer(config, joint=True)
    if trainer.world_size > 1:
        # Each process would start, and lock, all runs.
        given = {name: config.trainer.get(name) for name in ("devices", "num_nodes", "strategy")}
        raise ConfigError(
            f"joint trains runs together in one process, and trainer ({given}) makes {trainer.world_size}. "
            "Set trainer.devices=1, or train the runs one after another, as with -m seed=0,1."
        )
    for name, callback in (config.get("callbacks") or {}).items():
        if name != DECLARATIONS and (callback or {}).get("monitor") is not None:
            raise ConfigError(
                f"callbacks has {callback._target_}, which chooses by one run's {callback.monitor}, but runs "
                "that train jointly end together. Use callbacks=default."
            )


def _loggers(run: Run) -> list[Logger]:
    loggers: list[Logger] = _make_each(run.config.get("logger"))
    # By these three, users group and filter the runs of a sweep.
    by = {"method": run.method, "seed": run.seed, "fold": run.config.split.get("fold")}
    for logger in loggers:
        logger.log_hyperparams({**run.settings, **by})
    return loggers


def _make_each(group: DictConfig | None) -> list[Any]:
    """The objects of a group that holds several by name; null leaves one out, or all."""
    return [_make(node) for name, node in (group or {}).items() if node and name != DECLARATIONS]


def _make(node: DictConfig, **settings: object) -> Any:
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
        raise ConfigError(f"{place}: {target} does not take these settings ({cause}).") from error


def _is_of_settings(cause: BaseException) -> bool:
    """Whether an object refused its settings: an unknown name, a class that is not there, a wrong value."""
    return type(cause).__name__ == "MisconfigurationException" or isinstance(
        cause, TypeError | ValueError | ImportError
    )
