"""A run's record as validated parts: what a trained prompt needs to be read, run and passed on.

The names in its settings (`_target_`) are compared with the tables below and are never imported; values
must have the right types already and are never interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, cast

from softcue.backbone.base import Backbone
from softcue.backbone.load import from_embedded, from_hub, from_path
from softcue.contracts import Decoding, Vote
from softcue.data.task import Task, TextTask
from softcue.data.template import Template, compose
from softcue.errors import ConfigError, RunError, TemplateError
from softcue.evaluation.calibration import Affine, Batch, Calibrator, Contextual, Threshold
from softcue.evaluation.scoring import Scoring
from softcue.formats.plain import Node
from softcue.formats.source import Form
from softcue.prompts.ensemble import Ensemble
from softcue.received.record import expect_plain
from softcue.row_rules import Kind
from softcue.runs.record import Calibration, RunRecord

BACKBONES: Mapping[str, Callable[..., Backbone]] = {
    "softcue.backbone.load.from_embedded": from_embedded,
    "softcue.backbone.load.from_hub": from_hub,
    "softcue.backbone.load.from_path": from_path,
}
TASKS: Mapping[str, Callable[..., Task]] = {
    "softcue.data.task.Task": Task,
    "softcue.data.task.TextTask": TextTask,
}
DECODINGS = {"softcue.contracts.Decoding": Decoding}
SCORINGS = {
    "softcue.evaluation.scoring.Scoring": Scoring,
    # as softcue 0.1.0 wrote it
    "softcue.objectives.Scoring": Scoring,
}
CALIBRATORS: Mapping[str, Callable[..., Calibrator]] = {
    f"softcue.evaluation.calibration.{kind.__name__}": kind for kind in (Affine, Batch, Contextual, Threshold)
}
BASELINES = "softcue.baselines."
NOT_YET_RECORDED = {"engine": "auto", "gradient_checkpointing": False}
"""Settings of a backbone that records of softcue 0.1.0 lack."""
ENSEMBLE = "softcue.prompts.ensemble.Ensemble"
MULTITASK = "softcue.prompts.multitask.MultitaskPrompt"
FORMS: Mapping[str, Form] = {
    MULTITASK: "embeddings",
    "softcue.prompts.attempt.AttentionPrompt": "embeddings",
    "softcue.prompts.cartridge.Cartridge": "keys and values",
    "softcue.prompts.cpt.ContextPrompt": "embeddings",
    "softcue.prompts.dept.DecomposedPrompt": "embeddings",
    "softcue.prompts.gated_prefix.GatedPrefix": "keys and values",
    "softcue.prompts.idpg.BottleneckPrompt": "embeddings",
    "softcue.prompts.late.LatePrompt": "embeddings",
    "softcue.prompts.late_prefix.LatePrefix": "keys and values",
    "softcue.prompts.low_rank.LowRankPrompt": "embeddings",
    "softcue.prompts.multitask.MultitaskTarget": "embeddings",
    "softcue.prompts.p_tuning.PTuningLSTM": "embeddings",
    "softcue.prompts.p_tuning.PTuningMLP": "embeddings",
    "softcue.prompts.prefix_tuning.PrefixTuning": "keys and values",
    "softcue.prompts.prefix_tuning.ProjectedPrefixTuning": "keys and values",
    "softcue.prompts.prompt_tuning.PromptTuning": "embeddings",
    "softcue.prompts.random_subspace.RandomSubspace": "embeddings",
    "softcue.prompts.residual.ResidualPrompt": "embeddings",
    "softcue.prompts.smop.RoutedPrompt": "embeddings",
    "softcue.prompts.superposition.SuperposedPrompt": "embeddings",
    "softcue.prompts.xprompt.XPrompt": "embeddings",
}
"""The form of the prompts of our own methods."""
LATE = ("softcue.prompts.late.LatePrompt", "softcue.prompts.late_prefix.LatePrefix")
"""The methods whose prompts enter above the first layer."""
ROW_RULES: Mapping[str, Kind] = {
    "softcue.prompts.attempt.AttentionPrompt": "attention",
    "softcue.prompts.dept.DecomposedPrompt": "offsets",
    "softcue.prompts.idpg.BottleneckPrompt": "bottleneck",
    "softcue.prompts.smop.RoutedPrompt": "top_1",
}
"""How the methods whose prompts look at the row make them."""


@dataclass(frozen=True, kw_only=True)
class ExpectedBank:
    """What the prompt method of a record may have saved; None: anything."""

    forms: tuple[Form, ...] | None = None
    num_prompts: tuple[int, ...] | None = None
    votes: tuple[Vote | None, ...] | None = None
    first_layers: tuple[int, ...] | None = None
    row_rules: tuple[Kind | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run's record says of one of its prompts."""

    tasks: tuple[str, ...]
    """The run's tasks, in the order of their prompts; one in most runs."""
    position: int
    """Which of them the prompt is for."""
    task: Task
    layout: str
    """Where the virtual tokens are, around the task's template."""
    max_length: int | None
    max_target_length: int | None
    """Tokens of the longest text that a text task writes."""
    chat: bool
    """Whether rows stood in the user's turn of a chat."""
    decoding: Decoding | None
    """How the run generated texts; None: not at all."""
    scoring: Scoring
    """Sum or mean; what the run calibrated is `calibration`."""
    calibration: Calibration | None
    method: str
    """The prompt method's name in the settings; for comparison only."""
    expected: ExpectedBank
    backbone: partial[Backbone] | None
    """Loads the frozen model; None if the caller gives it."""

    @property
    def template(self) -> Template:
        """The task's template inside the prompt's layout."""
        return compose(self.layout, self.task.template)


def read_parts(
    record: RunRecord, *, at: str, task: str | None, cache: str, own_backbone: bool = False
) -> Parts:
    """Validate a record; `at` is its place, for errors, and `cache` this machine's cache folder.

    `own_backbone` leaves the record's backbone alone, for a caller that has the model.

    Raises:
        RunError: a part that is none of ours or has an unfit value, or `task` is none of the run's.
    """
    settings = Node(values=record.settings, at=f"{at} settings")
    data, prompt = settings.child("data"), settings.child("prompt")
    tasks = task_names(record, at=at)
    chosen = tasks[0] if task is None and len(tasks) == 1 else task
    if chosen not in tasks:
        raise RunError(f"{at} has prompts for {list(tasks)}, and the task is {task}; name one of these.")
    own = data.child("tasks").child(chosen) if "tasks" in data.values else data
    method = prompt.child("method")
    if method.kind.startswith(BASELINES):
        raise RunError(f"{at} is of a run of {record.method}, which leaves no prompt; give a prompt's run.")
    parts = Parts(
        tasks=tasks,
        position=tasks.index(chosen),
        task=_made(own.child("task").part(TASKS), own.at),
        layout=prompt.value("layout", str),
        max_length=own.optional("max_length", int),
        max_target_length=_max_target_length(own, data),
        chat=_chat(settings.child("backbone")),
        decoding=_decoding(data),
        scoring=settings.child("scoring").part(SCORINGS, given=("calibration", "also"))(),
        calibration=_calibration(settings.child("scoring"), record, task=chosen, at=at),
        method=method.kind,
        expected=_expected_bank(method, num_tasks=len(tasks)),
        backbone=None if own_backbone else _backbone(settings.child("backbone"), cache=cache),
    )
    _made(lambda: parts.template, f"{prompt.at}.layout")
    _expect_calibration_fits(parts, at=at)
    if parts.max_length is not None and parts.max_length < 1:
        raise RunError(f"{own.at}.max_length is {parts.max_length}; it is 1 or more. Copy the folder again.")
    return parts


def _max_target_length(task: Node, data: Node) -> int | None:
    """That of the task, or of all; records of softcue 0.1.0 have none."""
    node = task if "max_target_length" in task.values else data
    return node.optional("max_target_length", int) if "max_target_length" in node.values else None


def _chat(backbone: Node) -> bool:
    """Records of softcue 0.1.0, and backbones of one's own, need not have it."""
    return "chat" in backbone.values and backbone.optional("chat", bool) is True


def _decoding(data: Node) -> Decoding | None:
    if data.values.get("decoding") is None:
        return None
    node = data.child("decoding")
    return cast(Decoding, _made(node.part(DECODINGS), node.at))


def task_names(record: RunRecord, *, at: str) -> tuple[str, ...]:
    """The tasks that a run has prompts for; raises as `read_parts` does."""
    data = Node(values=record.settings, at=f"{at} settings").child("data")
    several = "tasks" in data.values
    names = tuple(data.child("tasks").values) if several else (data.child("task").value("name", str),)
    for name in names:
        expect_plain(name, f"{data.at}.tasks")
    return names


def _expected_bank(method: Node, *, num_tasks: int) -> ExpectedBank:
    if method.kind == ENSEMBLE:
        ensemble = method.part({ENSEMBLE: Ensemble}, given=("spec", "num_virtual_tokens", "generator"))
        return ExpectedBank(num_prompts=(len(ensemble.keywords["runs"]),), votes=(ensemble.keywords["vote"],))
    if method.kind in FORMS:
        count = num_tasks if method.kind == MULTITASK else 1
        # Null is the middle layer of the model, which is not at hand.
        layer = method.optional("first_layer", int) if method.kind in LATE else 0
        return ExpectedBank(
            forms=(FORMS[method.kind],),
            num_prompts=(count,),
            votes=(None,),
            first_layers=None if layer is None else (layer,),
            row_rules=(ROW_RULES.get(method.kind),),
        )
    return ExpectedBank()


def _calibration(scoring: Node, record: RunRecord, *, task: str, at: str) -> Calibration | None:
    """The numbers that the run chose for a task, which must be there exactly if its scoring calibrates."""
    if scoring.values.get("calibration") is None:
        return None
    scoring.child("calibration").part(CALIBRATORS)
    calibration = record.calibrations.get(task)
    if calibration is None:
        raise RunError(
            f"{at} has a scoring that calibrates and no calibrations.{task}; copy the folder again."
        )
    return calibration


def _expect_calibration_fits(parts: Parts, *, at: str) -> None:
    if parts.calibration is None:
        return
    numbers, count = (parts.calibration.scale, parts.calibration.bias), len(parts.task.classes)
    if any(len(each) != count or not all(map(isfinite, each)) for each in numbers):
        raise RunError(
            f"{at} calibrations are not {count} finite numbers for the {count} classes of {parts.task.name}; "
            "copy the folder again."
        )


def _backbone(node: Node, *, cache: str) -> partial[Backbone]:
    way_out = "For a backbone of your own, load it and give it: softcue.load(folder, backbone=...)."
    # Where models are kept depends on this machine, not on the one that trained.
    here = {"cache_dir": cache} if "cache_dir" in node.values else {}
    values = {**NOT_YET_RECORDED, **node.values, **here}
    backbone = Node(values=values, at=node.at).part(BACKBONES, way_out=way_out)
    for name, value in backbone.keywords.items():
        expect_plain(value, f"{node.at}.{name}")
    return backbone


def _made(make: Callable[[], Any], at: str) -> Any:
    """Call it, with the place in front of what it finds wrong."""
    try:
        return make()
    except (ConfigError, TemplateError) as error:
        raise RunError(f"{at}: {error}") from error
