"""A frozen model with an untrained prompt or adapter, and rows encoded for both."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import TYPE_CHECKING, cast

from omegaconf import DictConfig

from softcue.build.backbone import build_backbone
from softcue.build.checks import asks_for_rows, expect_place, expect_virtual_tokens
from softcue.build.evaluation import build_decoding, build_scoring
from softcue.build.instantiate import make
from softcue.build.trainer import device_of
from softcue.data.chat import Turn
from softcue.data.labels import never_chosen
from softcue.data.run_data import RunData
from softcue.data.template import Template
from softcue.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from softcue.backbone.base import Backbone
    from softcue.contracts import BackboneSpec, Batch, SoftPrompt, TrainingRows

log = logging.getLogger(__name__)


def build_prompted_backbone(config: DictConfig, data: RunData) -> tuple[Backbone, SoftPrompt]:
    """The frozen model and the untrained prompt; `data` is encoded for them.

    Raises:
        ConfigError: the method is a baseline without a prompt.
    """
    lm = build_backbone(config)
    if asks_for_rows(make(config.prompt.method)):
        encode(config, data, lm)
        return lm, build_prompt(config, lm.spec, data.template, rows=_training_rows(config, data, lm))
    prompt = build_prompt(config, lm.spec, data.template)
    encode(config, data, lm, in_layers=prompt.in_layers)
    return lm, prompt


def build_prompt(
    config: DictConfig, spec: BackboneSpec, template: Template, *, rows: TrainingRows | None = None
) -> SoftPrompt:
    """The untrained prompt, with as many virtual tokens as the template has; some methods ask for `rows`."""
    import torch

    from softcue.baselines.base import Baseline
    from softcue.prompts.place import place

    generator = torch.Generator().manual_seed(config.seed)
    count = template.num_virtual_tokens
    method = make(config.prompt.method)
    if isinstance(method, Baseline):
        raise ConfigError(f"prompt={config.prompt.name} is a baseline: it has no soft prompt.")
    if count == 0:
        expect_virtual_tokens(config, method, template)
        plain: SoftPrompt = method()
        return plain
    asked = {"rows": rows} if asks_for_rows(method) else {}
    prompt = place(
        partial(method, generator=generator, **asked),
        spec=spec,
        num_virtual_tokens=count,
        submodules=config.prompt.submodules,
        attentions=config.prompt.attentions,
    )
    expect_place(config, template, prompt)
    # A model that an earlier run of this process left on a GPU makes start values there.
    return prompt.cpu()


def _training_rows(config: DictConfig, data: RunData, lm: Backbone) -> TrainingRows:
    """The only task's training rows; `validate` has refused several tasks."""
    from softcue.contracts import TrainingRows
    from softcue.training.row_gradients import row_gradients

    (task,) = data.tasks.values()

    def gradients(embeddings_PD: Tensor) -> Tensor:
        batches = cast("list[Batch]", list(task.eval_dataloader("train")))
        placed = lm.to(device_of(config))
        return row_gradients(placed, make(config.objective), build_scoring(config), batches, embeddings_PD)

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
    encode(config, data, lm)
    base_model = config.backbone.get("repo") or config.backbone.get("path") or config.backbone.name
    adapter = make(config.prompt.method)
    return lm, adapter.inject(lm.model, base_model=base_model, seed=config.seed)


def encode(config: DictConfig, data: RunData, lm: Backbone, *, in_layers: bool = False) -> None:
    turn = Turn.of(lm.tokenizer, prefix_first=in_layers) if lm.chat else None
    data.encode(
        lm.tokenizer,
        lm.spec.max_positions,
        padded=lm.takes_padded_rows,
        turn=turn,
        targets_apart=lm.spec.targets_apart,
    )
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
