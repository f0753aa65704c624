"""A finished prompt, read back from its run: ready to predict with, to look into and to ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.build import build_backbone, build_scoring, build_task, default_cache
from softcue.contracts import PromptBank
from softcue.data.collate import Collator, Example
from softcue.data.encode import Encoder
from softcue.data.task import Task
from softcue.data.template import Template, compose
from softcue.errors import DataError, RunError
from softcue.evaluation.predictions import predict
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import load_bank
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder

Text = str | Mapping[str, str]
"""One row: its text, or its columns by name where the task's template has several."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row's likeliest class, and the probability of each."""

    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainedPrompt:
    """A trained prompt, its task and its frozen model, which is loaded when it is first needed."""

    folder: Path
    record: RunRecord
    settings: DictConfig
    """The run's resolved config."""
    task: Task
    scoring: Scoring
    bank: PromptBank

    @property
    def layout(self) -> str:
        """Where the virtual tokens stand around the task's template."""
        return cast(str, self.settings.prompt.layout)

    @property
    def template(self) -> Template:
        """The task's template inside the prompt's layout."""
        return compose(self.layout, self.task.template)

    @cached_property
    def lm(self) -> Backbone:
        """The frozen model the prompt was trained for, on the accelerator if there is one."""
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return build_backbone(self.settings).to(accelerator or torch.device("cpu"))

    @cached_property
    def encoder(self) -> Encoder:
        """Text to rows of ids, cut just as they were in training."""
        return Encoder(
            template=self.template,
            task=self.task,
            tokenizer=self.lm.tokenizer,
            max_length=self.settings.data.max_length,
            max_positions=self.lm.spec.max_positions,
        )

    def predict(self, texts: Sequence[Text], *, batch_size: int = 32) -> list[Prediction]:
        """The class of each text.

        Raises:
            DataError: a text alone where the template has several columns, or a column missing.
        """
        classes = self.task.classes
        probability_BC = self.probabilities([self.fields(text) for text in texts], batch_size=batch_size)
        return [
            Prediction(
                label=classes[int(row_C.argmax())],
                probabilities=dict(zip(classes, row_C.tolist(), strict=True)),
            )
            for row_C in probability_BC
        ]

    def probabilities(self, rows: Sequence[Mapping[str, str]], *, batch_size: int) -> Tensor:
        """Class probabilities of rows given by their columns: [B, C], fp32, on the CPU."""
        encoded = [
            Example(
                ids=self.encoder.encode_row(row).ids,
                choices=self.encoder.choices,
                target=-1,
                prompt=0,
                row=at,
            )
            for at, row in enumerate(rows)
        ]
        if not encoded:
            return torch.zeros(0, len(self.task.classes))
        # Rows of similar length together; `predict` gives them back in their own order.
        encoded.sort(key=lambda row: len(row.ids))
        collate = Collator(width="longest" if self.lm.takes_padded_rows else None)
        batches = (collate(batch) for batch in _cut(encoded, batch_size))
        return predict(self.lm, self.bank, batches, self.scoring).probability_BC

    def fields(self, text: Text) -> Mapping[str, str]:
        """A row's columns by name, as the template wants them."""
        columns = self.template.columns
        if isinstance(text, str):
            if len(columns) > 1:
                raise DataError(
                    f"the template of {self.task.name} has columns {list(columns)}; give each row as a "
                    "mapping of column names to texts."
                )
            return {columns[0]: text}
        missing = [name for name in columns if name not in text]
        if missing:
            raise DataError(f"a row has columns {sorted(text)} and lacks {missing}; name them.")
        return text


def load(folder: str | Path, *, task: str | None = None) -> TrainedPrompt:
    """Read a finished prompt back: a run's folder, or one that `softcue-export` wrote.

    A run over several tasks has a prompt for each: `task` says which.

    Raises:
        RunError: there is no complete run in the folder, it left no prompt, or `task` is none of its.
    """
    path = Path(folder)
    record = _complete_record(path)
    settings = OmegaConf.create(record.settings)
    # Where the model lies is this machine's affair, not the one's that trained.
    settings.paths.cache = default_cache()
    if "cache_dir" in settings.backbone:
        settings.backbone.cache_dir = settings.paths.cache
    tasks = _task_names(record)
    chosen = tasks[0] if task is None and len(tasks) == 1 else task
    if chosen not in tasks:
        raise RunError(
            f"{path} has prompts for {tasks}, and the task asked for is {task}; name one of these."
        )
    if "tasks" in settings.data:
        # From here on the run is that task's alone.
        settings.data = settings.data.tasks[chosen]
    own = build_task(settings.data)
    bank = PromptBank()
    if compose(settings.prompt.layout, own.template).num_virtual_tokens > 0:
        bank = load_bank(path / "prompt.safetensors")[0]
    return TrainedPrompt(
        folder=path,
        record=record,
        settings=settings,
        task=own,
        scoring=build_scoring(settings),
        bank=bank.member(tasks.index(chosen)) if len(tasks) > 1 and bank.num_prompts > 1 else bank,
    )


def tasks_of(folder: str | Path) -> list[str]:
    """The tasks that a finished run has prompts for; raises as `load` does."""
    return _task_names(_complete_record(Path(folder)))


def _task_names(record: RunRecord) -> list[str]:
    data = record.settings["data"]
    return list(data["tasks"]) if "tasks" in data else [data["task"]["name"]]


def _complete_record(path: Path) -> RunRecord:
    record = RunFolder(path.parent, path.name).record()
    if record is None:
        raise RunError(
            f"{path} holds no record.json; give the folder of a run, such as runs/p_tuning-0123456789ab, or "
            "one that softcue-export wrote."
        )
    if record.status != "complete":
        raise RunError(
            f"{path} is {record.status}, not complete; start its softcue-train command again to complete it."
        )
    if record.backbone is None:
        raise RunError(f"{path} is a run of {record.method}, which reads no prompt; give a prompt's run.")
    return record


def _cut(rows: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
