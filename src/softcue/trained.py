"""A trained prompt, read from a run's folder or an exported one: ready to predict, inspect and export.

Reading runs no code and resolves no setting of the folder: see `softcue.received`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.configs import default_cache
from softcue.contracts import Batch, Choices, Decoding, PromptBank
from softcue.data.chat import Turn
from softcue.data.collate import Collator, Example
from softcue.data.encode import Encoder
from softcue.data.task import Task, TextTask
from softcue.data.template import Template
from softcue.errors import ConfigError, DataError, RunError
from softcue.evaluation.predictions import Predictions, predict
from softcue.evaluation.texts import Generated, generate
from softcue.formats.folder import write_folder
from softcue.formats.prompt_file import ENCODER_DECODER, KIND, PROMPT, open_prompt
from softcue.received.bank import expect_fits, read_bank
from softcue.received.parts import Parts, read_parts, task_names
from softcue.received.record import complete_record
from softcue.runs.record import RunRecord
from softcue.runs.store import RECORD

TextOrColumns = str | Mapping[str, str]
"""One row: its text, or its columns by name where the task's template has several."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One row, its most likely class, and the probability of each."""

    text: TextOrColumns
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class TrainedPrompt:
    """A trained prompt, its task and its frozen model, which is loaded when it is first needed."""

    folder: Path
    record: RunRecord
    parts: Parts
    bank: PromptBank
    backbone: Backbone | None = None
    """The frozen model, if the caller gave it; else the record names it."""

    @property
    def task(self) -> Task:
        """The task that the prompt was trained for."""
        return self.parts.task

    @property
    def writes_texts(self) -> bool:
        """Whether it was trained to write texts, not to choose classes."""
        return isinstance(self.task, TextTask)

    @cached_property
    def encoder_decoder(self) -> bool:
        """Whether the frozen model has an encoder and a decoder."""
        if not self.bank.tensors():
            return self.lm.spec.targets_apart  # a prompt without virtual tokens has no file
        return open_prompt(self.folder / PROMPT).metadata.get(KIND) == ENCODER_DECODER

    @property
    def layout(self) -> str:
        """Where the virtual tokens are, around the task's template."""
        return self.parts.layout

    @property
    def template(self) -> Template:
        """The task's template inside the prompt's layout."""
        return self.parts.template

    @cached_property
    def lm(self) -> Backbone:
        """The frozen model the prompt was trained for, on the accelerator if there is one.

        Raises:
            RunError: the prompt has other sizes than the model.
        """
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        lm = self.backbone
        if lm is None:
            assert self.parts.backbone is not None, "`load` needs one of the two"
            lm = self.parts.backbone()
        expect_fits(self.bank, lm.spec, folder=self.folder)
        return lm.to(accelerator or torch.device("cpu"))

    @cached_property
    def encoder(self) -> Encoder:
        """Text to rows of ids, cut as in training."""
        return Encoder(
            template=self.template,
            task=self.task,
            tokenizer=self.lm.tokenizer,
            max_length=self.parts.max_length,
            max_positions=self.lm.spec.max_positions,
            max_target_length=self.parts.max_target_length,
            turn=self._turn,
            targets_apart=self.lm.spec.targets_apart,
        )

    @property
    def _turn(self) -> Turn | None:
        """The turn of a chat in which rows stood in training."""
        if not self.parts.chat:
            return None
        return Turn.of(self.lm.tokenizer, prefix_first=self.bank.keys_TLHPK is not None)

    @overload
    def predict(self, rows: TextOrColumns, *, batch_size: int = 32) -> Prediction: ...
    @overload
    def predict(
        self, rows: list[str] | tuple[str, ...] | Sequence[Mapping[str, str]], *, batch_size: int = 32
    ) -> list[Prediction]: ...
    def predict(
        self, rows: TextOrColumns | Sequence[TextOrColumns], *, batch_size: int = 32
    ) -> Prediction | list[Prediction]:
        """Predict one row, or a list of rows.

        Raises:
            ConfigError: the prompt was trained to write texts.
            DataError: a text alone where the template has several columns, or a column missing.
            RunError: the prompt makes the model give NaN.
        """
        if self.writes_texts:
            raise ConfigError(
                f"{self.folder} was trained to write texts, not to choose classes; use generate."
            )
        if isinstance(rows, str | Mapping):
            return self._predict([rows], batch_size=batch_size)[0]
        return self._predict(rows, batch_size=batch_size)

    @overload
    def generate(
        self, rows: TextOrColumns, *, batch_size: int = 32, decoding: Decoding | None = None
    ) -> str: ...
    @overload
    def generate(
        self,
        rows: list[str] | tuple[str, ...] | Sequence[Mapping[str, str]],
        *,
        batch_size: int = 32,
        decoding: Decoding | None = None,
    ) -> list[str]: ...
    def generate(
        self,
        rows: TextOrColumns | Sequence[TextOrColumns],
        *,
        batch_size: int = 32,
        decoding: Decoding | None = None,
    ) -> str | list[str]:
        """What the model writes after one row, or after each of a list; by default as the run decoded.

        `dataclasses.replace(prompt.decoding, num_beams=4)` is that with another number of beams.

        Raises:
            ConfigError: the run has generated no texts, and no decoding is given.
            DataError: as `predict`.
        """
        if isinstance(rows, str | Mapping):
            return self._generate([rows], batch_size, decoding or self.decoding)[0]
        return self._generate(rows, batch_size, decoding or self.decoding)

    @property
    def decoding(self) -> Decoding:
        """How the run generated texts; ConfigError if it did not."""
        if self.parts.decoding is None:
            raise ConfigError(
                f"{self.folder} has no data.decoding, so its run has generated no texts; give decoding."
            )
        return self.parts.decoding

    def _generate(self, rows: Sequence[TextOrColumns], batch_size: int, decoding: Decoding) -> list[str]:
        return list(self.generated([self.fields(row) for row in rows], batch_size, decoding).texts)

    def generated(self, rows: Sequence[Mapping[str, str]], batch_size: int, decoding: Decoding) -> Generated:
        """What the model writes after rows given by their columns."""
        choices = [self._unlabelled] * len(rows)
        batches = self._encoded(rows, choices, targets=[-1] * len(rows), size=batch_size)
        return generate(self.lm, self.bank, batches, decoding)

    def _predict(self, rows: Sequence[TextOrColumns], *, batch_size: int) -> list[Prediction]:
        classes = self.task.classes
        probability_BC = self.probabilities([self.fields(row) for row in rows], batch_size=batch_size)
        return [
            Prediction(
                text=row,
                label=classes[int(row_C.argmax())],
                probabilities=dict(zip(classes, row_C.tolist(), strict=True)),
            )
            for row, row_C in zip(rows, probability_BC, strict=True)
        ]

    def probabilities(self, rows: Sequence[Mapping[str, str]], *, batch_size: int) -> Tensor:
        """Class probabilities of rows given by their columns: [B, C], fp32, on the CPU."""
        if not rows:
            return torch.zeros(0, len(self.task.classes))
        return self.predictions(rows, targets=[-1] * len(rows), batch_size=batch_size).probability_BC

    def predictions(
        self,
        rows: Sequence[Mapping[str, str]],
        *,
        targets: Sequence[int],
        batch_size: int,
        texts: Sequence[str] | None = None,
    ) -> Predictions:
        """Predictions for one row or more; `targets` are their class indices, -1 for none.

        In a text task, `texts` follow the rows, and all targets are 0.
        """
        choices, encoder = [self.encoder.choices] * len(rows), self.encoder.target
        if texts is not None and encoder is not None:
            choices = [(encoder.encode(text).ids,) for text in texts]
        batches = self._encoded(rows, choices, targets=targets, size=batch_size)
        scored = predict(self.lm, self.bank, batches, self.parts.scoring)
        if not scored.probability_BC.isfinite().all():
            raise RunError(
                f"{self.folder}: the model gives NaN with this prompt, whose numbers are as large as "
                f"{max(float(t.abs().max()) for t in self.bank.tensors().values()):.3g}; train it again with "
                "a lower learning rate."
            )
        return scored if self.parts.calibration is None else scored.calibrated(self.parts.calibration)

    @property
    def _unlabelled(self) -> Choices:
        """Choices of a row whose label or text is unknown: any, since they are not read."""
        target = self.encoder.target
        return self.encoder.choices if target is None else ((target.end_token,),)

    def _encoded(
        self,
        rows: Sequence[Mapping[str, str]],
        choices: Sequence[Choices],
        *,
        targets: Sequence[int],
        size: int,
    ) -> Iterator[Batch]:
        """Batches of rows of similar length; results are put back into the rows' own order."""
        encoded = [
            Example(ids=self.encoder.encode_row(row).ids, choices=own, target=target, prompt=0, row=at)
            for at, (row, own, target) in enumerate(zip(rows, choices, targets, strict=True))
        ]
        encoded.sort(key=lambda row: len(row.ids))
        collate = Collator(width="longest" if self.lm.takes_padded_rows else None)
        return (collate(batch) for batch in _batches(encoded, size))

    def fields(self, row: TextOrColumns) -> Mapping[str, str]:
        """A row's columns by name, as the template needs them."""
        columns = self.template.columns
        if isinstance(row, str):
            if len(columns) > 1:
                raise DataError(
                    f"the template of {self.task.name} has columns {list(columns)}; give each row as a "
                    "mapping of column names to texts."
                )
            return {columns[0]: row}
        missing = [name for name in columns if name not in row]
        if missing:
            raise DataError(f"a row has columns {sorted(row)} and lacks {missing}; name them.")
        return row

    def save(self, folder: str | Path) -> None:
        """Copy the record and the prompt, with those of the run's other tasks, to a new folder for `load`.

        Raises:
            ConfigError: the folder exists.
            RunError: it cannot be written.
        """
        target = Path(folder)
        if target.exists():
            raise ConfigError(f"{target} exists; give a folder that does not exist yet.")
        write_folder(target, self.files())

    def files(self) -> dict[str, bytes]:
        """The files that `load` reads, by name."""
        names = (RECORD, PROMPT) if self.bank.tensors() else (RECORD,)
        return {name: (self.folder / name).read_bytes() for name in names}


def load(folder: str | Path, *, task: str | None = None, backbone: Backbone | None = None) -> TrainedPrompt:
    """Read a trained prompt: a run's folder, or one that `softcue-export` or `save` wrote.

    The folder may come from anyone: its content is read as data and checked. A run over several tasks
    has a prompt for each: `task` chooses one. `backbone` is the loaded frozen model, needed only if
    the run used a kind of backbone that is not softcue's own.

    Raises:
        RunError: the folder holds no complete run, no prompt, a damaged or foreign one, or one whose
            task or backbone is of an unknown kind; or `task` is none of the run's.
    """
    path = Path(folder)
    record = complete_record(path)
    parts = read_parts(
        record,
        at=str(path / RECORD),
        task=task,
        cache=default_cache(),
        own_backbone=backbone is not None,
    )
    return TrainedPrompt(
        folder=path, record=record, parts=parts, bank=read_bank(path, record, parts), backbone=backbone
    )


def tasks_of(folder: str | Path) -> list[str]:
    """The tasks that a complete run has prompts for; raises as `load` does."""
    path = Path(folder)
    return list(task_names(complete_record(path), at=str(path / RECORD)))


def _batches(rows: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
