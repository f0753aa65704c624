"""What a config asks for that cannot be, refused before a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, cast

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from softcue.backbone.kind import is_encoder_decoder, model_place, num_layers
from softcue.build.evaluation import build_decoding
from softcue.build.instantiate import make
from softcue.build.trainer import build_trainer
from softcue.configs.combinations import expect_possible
from softcue.data.run_data import RunData
from softcue.data.template import Soft, Template
from softcue.errors import ConfigError, LayerError
from softcue.runs.identity import DECLARATIONS

HARD_PROMPT = "softcue.prompts.hard_prompt.HardPrompt"
SELF_TRAINING = "softcue.training.self_training.SelfTraining"
TEXT_MONITORS = ("train/loss", "validation/loss", "validation/perplexity")
"""What callbacks may monitor where the target is a text: texts are generated when training has ended."""


def validate(config: DictConfig, data: RunData) -> None:
    """Refuse a method that the layout has no place for or no virtual tokens for, and callbacks without rows.

    This needs no model, so a sweep checks all jobs before it starts the first.

    Raises:
        ConfigError: the settings that contradict each other.
        BackboneError: a model's folder that is not there.
    """
    has_texts = any(task.has_texts for task in data.tasks.values())
    if has_texts or config.data.get("decoding") is not None:
        _expect_generation(config, has_texts=has_texts)
    if config.backbone.get("path") is not None:
        model_place(str(config.backbone.path))
    _expect_model_fits(config)
    _expect_reader_of_unlabelled(config, num_tasks=len(data.tasks))
    template = data.template
    # Where nothing can be wrong, the class is not imported: that takes seconds.
    target = str(config.prompt.method.get("_target_"))
    is_own = target.startswith("softcue.prompts.") and target != HARD_PROMPT
    if template.num_virtual_tokens > 0 and not (is_own and _is_prefix(template) and len(data.tasks) == 1):
        _expect_method_fits(config, data, make(config.prompt.method))
    elif template.num_virtual_tokens == 0 and config.prompt.method.get("_partial_"):
        expect_virtual_tokens(config, make(config.prompt.method), template)
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


def expect_virtual_tokens(config: DictConfig, method: Callable[..., Any], template: Template) -> None:
    """Refuse a template without virtual tokens for a method that needs some."""
    given = [one for one in signature(method).parameters.values() if one.kind is one.KEYWORD_ONLY]
    if template.num_virtual_tokens == 0 and any(one.default is one.empty for one in given):
        raise ConfigError(
            f"prompt.layout is {config.prompt.layout!r}, which holds no virtual tokens for "
            f'{config.prompt.name}; write for instance "[soft:20]{{input}}", or use prompt=hard_prompt.'
        )


def _expect_reader_of_unlabelled(config: DictConfig, *, num_tasks: int) -> None:
    """Refuse rows without a label where nothing learns from them, and a loss that waits for such rows."""
    count, names_self_training = config.data.train_unlabelled, config.objective._target_ == SELF_TRAINING
    if count is None and not names_self_training:
        return
    if count is None:
        raise ConfigError(
            "objective=self_training learns from rows without a label, and data.train_unlabelled is null; "
            "set it to a number of rows."
        )
    is_baseline = str(config.prompt.method._target_).startswith("softcue.baselines.")
    for is_wrong, why, way_out in (
        (not names_self_training, "this objective reads labelled rows alone", "objective=self_training"),
        (is_baseline, f"prompt={config.prompt.name} trains no prompt", "data.train_unlabelled=null"),
        (num_tasks > 1, f"the data have {num_tasks} tasks", "data to one of them"),
    ):
        if is_wrong:
            raise ConfigError(f"data.train_unlabelled is {count}, and {why}. Set {way_out}.")


def _expect_model_fits(config: DictConfig) -> None:
    """Refuse settings for the other kind of model, as far as a config.json at hand tells which kind it is."""
    prompt, name = config.prompt, config.backbone.name
    apart = {key: prompt[key] for key in ("submodules", "attentions") if prompt[key] not in (None, 1)}
    if apart and is_encoder_decoder(config.backbone) is False:
        raise ConfigError(
            f"prompt has {apart}, which is for encoder-decoders, and backbone {name} is a decoder. Set "
            f"{' and '.join(f'prompt.{key}=null' for key in apart)}, or choose a model such as "
            "backbone=t5_base_lm_adapt."
        )
    method, layer = prompt.method.get("_target_"), prompt.method.get("first_layer", 0)
    causal = {
        "prompt.method": method == "softcue.prompts.cpt.ContextPrompt" or layer != 0,
        "backbone.engine": config.backbone.engine == "stream",
    }
    for key, is_given in causal.items():
        if is_given and is_encoder_decoder(config.backbone):
            is_method = key == "prompt.method"
            what, other = (prompt.name, "prompt=prompt_tuning") if is_method else ("stream", f"{key}=auto")
            raise ConfigError(
                f"{key} is {what}, which is for decoders, and backbone {name} is an encoder-decoder. Use "
                f"{other}, or another backbone."
            )
    if layer:
        count = num_layers(config.backbone)
        if count is not None and not 0 <= layer < count:
            raise LayerError(
                setting="prompt.method.first_layer", layer=layer, backbone=name, num_layers=count
            )


def _expect_generation(config: DictConfig, *, has_texts: bool) -> None:
    """Refuse what needs classes in a run on texts, and a method that writes none."""
    from softcue.baselines.adapters import Adapter
    from softcue.baselines.base import Baseline

    method, what = (
        make(config.prompt.method),
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
    from softcue.baselines.base import TextClassifier

    if isinstance(method, TextClassifier):
        return  # It reads no layout.
    if not _takes(method, "num_virtual_tokens"):
        raise ConfigError(
            f"prompt.layout is {config.prompt.layout!r}, and prompt={config.prompt.name} has no virtual "
            'tokens; write for instance "{input}".'
        )
    assert isinstance(method, partial)
    expect_place(config, data.template, method.func)
    if asks_for_rows(method) and len(data.tasks) > 1:
        raise ConfigError(
            f"prompt={config.prompt.name} reads the training rows of one task, and data.tasks has "
            f"{len(data.tasks)}: {', '.join(data.tasks)}. Choose one of them as data."
        )


def expect_place(config: DictConfig, template: Template, prompt: object) -> None:
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


def asks_for_rows(method: object) -> bool:
    """Whether a method reads training rows before it starts."""
    return _takes(method, "rows")


def _takes(method: object, name: str) -> bool:
    """A baseline is no class but an object, and takes nothing."""
    return callable(method) and name in signature(method).parameters


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


def expect_joint(config: DictConfig) -> None:
    """Refuse settings with which several runs cannot train jointly.

    Raises:
        ConfigError: several processes, a callback that monitors one run, or an adapter.
    """
    from softcue.baselines.adapters import Adapter

    if isinstance(make(config.prompt.method), Adapter):
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
