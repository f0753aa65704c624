"""A soft prompt as a learner, trained by Lightning alone or jointly with those of other runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from signal import SIGINT, default_int_handler, signal
from typing import Self, cast

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.trainer.states import TrainerStatus
from rich.progress import track

from softcue.backbone.base import Backbone
from softcue.contracts import Batch, Decoding, PromptBank
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Rows, RunData
from softcue.errors import TrainingError
from softcue.evaluation.predictions import Predictions, predict_with
from softcue.evaluation.scoring import Scoring
from softcue.evaluation.texts import Generated, generate
from softcue.formats.prompt_file import ENCODER_DECODER, KIND, bank_to_bytes, load_bank
from softcue.runs.atomic import write_atomic
from softcue.runs.record import Parameters, Training
from softcue.runs.store import RunFolder
from softcue.training.checkpoints import read_checkpoint
from softcue.training.joint_data import JointData
from softcue.training.learner import Fitted, Learner
from softcue.training.loggers import JointLogger
from softcue.training.member import Member
from softcue.training.module import PromptModule
from softcue.training.objectives import Objective
from softcue.training.progress import hidden
from softcue.training.resume import last_state, resumable
from softcue.training.schedules import SchedulerFactory

log = logging.getLogger(__name__)


class PromptLearner(Learner):
    """A soft prompt on a frozen model.

    Learners that train jointly have the same `lm`, `objective`, `scoring`, `scheduler` and `trainer`.
    """

    def __init__(
        self,
        *,
        lm: Backbone,
        member: Member,
        data: RunData,
        objective: Objective,
        scoring: Scoring,
        scheduler: SchedulerFactory | None,
        trainer: Trainer,
        loggers: Sequence[Logger],
    ) -> None:
        self.lm, self.member, self.data = lm, member, data
        self.objective, self.scoring, self.scheduler = objective, scoring, scheduler
        self.trainer, self.loggers = trainer, list(loggers)
        self.backbone = lm.spec.name
        self.dtype = str(lm.dtype).removeprefix("torch.")
        self.engine = lm.engine
        self.steps = 0
        self._trained_bank: PromptBank | None = None

    @classmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        """Train in one pass; raises ConfigError for different numbers of training batches."""
        began = time.perf_counter()
        first, members = learners[0], [learner.member for learner in learners]
        log.info(parameters_line(first.parameters))
        if first.parameters.trainable == 0:
            return [Fitted(training=None, seconds=0.0) for _ in learners]
        module = PromptModule(
            lm=first.lm,
            members=members,
            objective=first.objective,
            scoring=first.scoring,
            scheduler=first.scheduler,
        )
        trainer, state = first.trainer, last_state(first.trainer)
        trainer.loggers = _loggers(learners)
        if state is not None:
            state.path = checkpoint
        start = resumable(checkpoint, [member.run_id for member in members])
        data = JointData([learner.data for learner in learners])
        try:
            trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        except SystemExit as ended:
            # Lightning turns Ctrl-C into exit code 1, and ignores any further one.
            if trainer.state.status is not TrainerStatus.INTERRUPTED:
                raise
            signal(SIGINT, default_int_handler)
            raise KeyboardInterrupt from ended
        except TrainingError:
            if module.running:  # then it is the trainer's error, not the members'
                raise
        training = _end_of_training(trainer, module)
        seconds = time.perf_counter() - began + (state.seconds_before if state else 0.0)
        for learner in learners:
            learner.steps, learner._trained_bank = training.steps, learner.member.folded_bank()
        fitted = Fitted(training=training, seconds=seconds / len(learners))
        return [member.failure or fitted for member in members]

    @property
    def bank(self) -> PromptBank:
        """The prompts to predict with: the trained ones, or before training those it starts from."""
        return self.member.folded_bank() if self._trained_bank is None else self._trained_bank

    @property
    def parameters(self) -> Parameters:
        trainable = sum(p.numel() for p in self.member.prompt.parameters() if p.requires_grad)
        return Parameters(
            trainable=trainable,
            shipped=sum(tensor.numel() for tensor in self.bank.tensors().values()),
            total=self.lm.spec.num_parameters + trainable,
        )

    def predict(self, data: PromptData, rows: Rows, scorings: Sequence[Scoring]) -> list[Predictions]:
        return predict_with(self._placed_lm, self.bank, _batches(data, rows, "score"), scorings)

    def generate(self, data: PromptData, rows: Rows, decoding: Decoding) -> Generated:
        return generate(self._placed_lm, self.bank, _batches(data, rows, "continue"), decoding)

    @property
    def _placed_lm(self) -> Backbone:
        # Training has moved the model to its device, but not every run trains in this process.
        return self.lm.to(self.trainer.strategy.root_device)

    def restore(self, folder: RunFolder, training: Training) -> None:
        self._trained_bank, _ = load_bank(folder.prompt_path)
        self.steps = training.steps

    def log(self, metrics: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.steps)

    def save(self, folder: RunFolder) -> None:
        bank, tasks = self.bank, [data.task for data in self.data.tasks.values()]
        if bank.tensors():
            metadata = {
                "backbone": self.lm.spec.name,
                "layout": self.data.layout,
                "task": ", ".join(task.name for task in tasks),
                "template": " | ".join(task.template for task in tasks),
                "verbalizer": " | ".join(json.dumps(dict(task.verbalizer)) for task in tasks),
            }
            if self.lm.spec.targets_apart:
                metadata[KIND] = ENCODER_DECODER
            content = bank_to_bytes(bank, metadata, self.member.prompt.extra_state())
            write_atomic(folder.prompt_path, content)

    def close(self, *, failed: bool) -> None:
        for logger in self.loggers:
            logger.finalize("failed" if failed else "success")
            if isinstance(logger, WandbLogger):
                # Lightning leaves it open until the process ends, but a sweep starts the next run in it.
                logger.experiment.finish(exit_code=int(failed))


def _batches(data: PromptData, rows: Rows, verb: str) -> Iterable[Batch]:
    what = rows if isinstance(rows, str) else "texts"
    loader = cast(Iterable[Batch], data.eval_dataloader(rows))
    return track(loader, description=f"{verb} {what}", disable=hidden())


def parameters_line(parameters: Parameters) -> str:
    """The counts in the wording of PEFT's `print_trainable_parameters`."""
    share = 100 * parameters.trainable / parameters.total
    return (
        f"trainable params: {parameters.trainable:,d} || "
        f"all params: {parameters.total:,d} || trainable%: {share}"
    )


def _loggers(learners: Sequence[PromptLearner]) -> list[Logger]:
    """The trainer's loggers: those of a single run, or one that serves the loggers of all."""
    if len(learners) == 1:
        return learners[0].loggers
    for learner in learners:
        learner.member.prefix = f"{learner.member.run_id}:"
    return [JointLogger({learner.member.prefix: learner.loggers for learner in learners})]


def _end_of_training(trainer: Trainer, module: PromptModule) -> Training:
    """How far training went; the module holds the best checkpoint, if callbacks chose one."""
    state, best = last_state(trainer), _best_checkpoint(trainer)
    best_step = None
    if best is not None:
        checkpoint = read_checkpoint(Path(best.best_model_path), map_location=module.device)
        module.load_state_dict(checkpoint["state_dict"])
        best_step = int(checkpoint["global_step"])
    return Training(
        steps=trainer.global_step,
        epochs=trainer.current_epoch,
        monitor=best.monitor if best else None,
        best_value=float(best.best_model_score) if best and best.best_model_score is not None else None,
        best_step=best_step,
        joint=len(module.members),
        resumes=state.resumes if state else 0,
    )


def _best_checkpoint(trainer: Trainer) -> ModelCheckpoint | None:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return callback
    return None
