"""Anything that learns from a run's labelled rows: a soft prompt, or a baseline to hold it against."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Protocol, cast

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from rich.progress import track

from softcue.baselines.tfidf import TfidfLogisticRegression
from softcue.contracts import Batch, PromptBank
from softcue.data.datamodule import Part, PromptData
from softcue.data.mixture import MixedData
from softcue.errors import ConfigError, TrainingError
from softcue.evaluation.predictions import Predictions, predict
from softcue.formats.prompt_file import bank_to_bytes
from softcue.runs.atomic import atomic_path, write_atomic
from softcue.runs.record import Parameters, Training
from softcue.runs.store import RunFolder
from softcue.training.joint import JointData, JointModule
from softcue.training.module import PromptModule
from softcue.training.objectives import ScoresObjective
from softcue.training.resume import LastState, save

log = logging.getLogger(__name__)


class Learner(Protocol):
    """What an entry point asks of a method, with a language model or without."""

    backbone: str | None
    dtype: str | None
    engine: str | None

    def fit(self, checkpoint: Path) -> Training | None:
        """Learn from the training rows, from `checkpoint` on if that exists; leave the end there.

        None if there is nothing to learn step by step.
        """

    def restore(self, checkpoint: Path, training: Training) -> None:
        """Be as `fit` left it, with what it said."""

    @property
    def parameters(self) -> Parameters:
        """How much was trained, ships, and ran in all."""

    @property
    def seconds_before(self) -> float:
        """How long `fit` has trained before it was cut off and went on."""

    def predict(self, data: PromptData, part: Part) -> Predictions:
        """Class probabilities for every row of a part of one task."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Tell the configured loggers, by names such as `test/macro_f1`."""

    def ship(self, folder: RunFolder) -> None:
        """Leave what a user takes away in the run's folder."""

    def close(self, *, failed: bool) -> None:
        """End what a run has opened, whether it went well or not."""


class PromptLearner:
    """A soft prompt on a frozen model."""

    def __init__(self, *, module: PromptModule, data: PromptData | MixedData, trainer: Trainer) -> None:
        self.module, self.data, self.trainer = module, data, trainer
        self.backbone: str | None = module.lm.spec.name
        self.dtype: str | None = str(module.lm.dtype).removeprefix("torch.")
        self.engine: str | None = module.lm.engine
        self.steps = 0

    @property
    def parameters(self) -> Parameters:
        trainable = sum(p.numel() for p in self.module.prompt.parameters() if p.requires_grad)
        return Parameters(
            trainable=trainable,
            shipped=sum(tensor.numel() for tensor in self.bank().tensors().values()),
            total=self.module.lm.spec.num_parameters + trainable,
        )

    def fit(self, checkpoint: Path) -> Training | None:
        log.info(parameters_line(self.parameters))
        if self.parameters.trainable == 0:
            return None
        start = _readable(checkpoint)
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=start, weights_only=True)
        self.steps = self.trainer.global_step
        best = _best_checkpoint(self.trainer)
        if best is not None:
            state = torch.load(best.best_model_path, weights_only=True, map_location=self.module.device)
            self.module.load_state_dict(state["state_dict"])
        save(self.trainer, checkpoint)
        return Training(
            steps=self.trainer.global_step,
            epochs=self.trainer.current_epoch,
            monitor=best.monitor if best else None,
            best_value=float(best.best_model_score) if best and best.best_model_score is not None else None,
            best_step=int(state["global_step"]) if best else None,
            resumes=sum(state.resumes for state in last_states(self.trainer)),
        )

    def restore(self, checkpoint: Path, training: Training) -> None:
        state = torch.load(checkpoint, weights_only=True, map_location=self.module.device)
        self.module.load_state_dict(state["state_dict"])
        self.steps = training.steps

    @property
    def seconds_before(self) -> float:
        return sum(state.seconds_before for state in last_states(self.trainer))

    def bank(self) -> PromptBank:
        """The prompt as it ships: its encoder folded away, dropout off."""
        prompt, was_training = self.module.prompt, self.module.prompt.training
        with torch.no_grad():
            folded: PromptBank = prompt.eval()().detach()
        prompt.train(was_training)
        return folded

    def predict(self, data: PromptData, part: Part) -> Predictions:
        # Training has moved the model there; a prompt that learns nothing has not.
        lm = self.module.lm.to(self.trainer.strategy.root_device)
        batches = cast(Iterable[Batch], data.eval_dataloader(part))
        shown = track(batches, description=f"score {part}")
        return predict(lm, self.bank(), shown, self.module.scoring)

    def log(self, metrics: Mapping[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(dict(metrics), step=self.steps)

    def close(self, *, failed: bool) -> None:
        for logger in self.trainer.loggers:
            logger.finalize("failed" if failed else "success")
            if isinstance(logger, WandbLogger):
                # Lightning leaves the run open for the process's end, but a sweep goes on in it.
                logger.experiment.finish(exit_code=int(failed))

    def ship(self, folder: RunFolder) -> None:
        bank, tasks = self.bank(), [data.task for data in self.data.tasks.values()]
        if not bank.tensors():
            return
        metadata = {
            "backbone": self.module.lm.spec.name,
            "layout": self.data.layout,
            "task": ", ".join(task.name for task in tasks),
            "template": " | ".join(task.template for task in tasks),
            "verbalizer": " | ".join(json.dumps(dict(task.verbalizer)) for task in tasks),
        }
        write_atomic(folder.prompt_path, bank_to_bytes(bank, metadata, self.module.prompt.extra_state()))


def fit_jointly(
    learners: Sequence[PromptLearner], folders: Sequence[RunFolder], trainer: Trainer
) -> list[Training | TrainingError]:
    """Train several prompts in one pass; a member that diverged gives its error instead.

    A pass of the same runs that was cut off goes on. The others end as `fit` leaves them.

    Raises:
        ConfigError: the members have different numbers of training batches.
    """
    if not isinstance(learners[0].module.objective, ScoresObjective) or len(learners[0].data.tasks) > 1:
        raise ConfigError(
            "packed trains runs of one task under objective=language_model or choice; leave packed out."
        )
    loaders = [learner.data.train_dataloader() for learner in learners]
    if len({len(loader) for loader in loaders}) > 1:
        raise ConfigError(
            f"packed runs have {[len(loader) for loader in loaders]} training batches; runs that train "
            "together need the same number. Give them the same split.num_train and data.batch_size."
        )
    names = [folder.path.name for folder in folders]
    pack = JointModule([learner.module for learner in learners], names=names)
    data = JointData([cast(PromptData, learner.data) for learner in learners])
    start = _readable(folders[0].joint_path, packed=names)
    trainer.fit(pack, datamodule=data, ckpt_path=start, weights_only=True)
    for learner, folder, curve in zip(learners, folders, pack.curves, strict=True):
        learner.steps = trainer.global_step
        with atomic_path(folder.checkpoint_path) as temporary:
            # To be scored with; no run alone goes on from it.
            torch.save({"state_dict": learner.module.state_dict()}, temporary)
        for logger in learner.trainer.loggers:
            for values in curve:
                logger.log_metrics(
                    {name: value for name, value in values.items() if name != "step"},
                    step=int(values["step"]),
                )
    done = Training(
        steps=trainer.global_step,
        epochs=trainer.current_epoch,
        monitor=None,
        best_value=None,
        best_step=None,
        joint=len(learners),
        resumes=sum(state.resumes for state in last_states(trainer)),
    )
    return [pack.failures.get(at, done) for at in range(len(learners))]


class TextBaseline:
    """A text classifier on the same rows."""

    backbone: str | None = None
    dtype: str | None = None
    engine: str | None = None
    seconds_before = 0.0

    def __init__(self, *, classifier: TfidfLogisticRegression, data: PromptData) -> None:
        self.classifier, self.data = classifier, data

    @property
    def parameters(self) -> Parameters:
        count = self.classifier.num_parameters
        return Parameters(trainable=count, shipped=count, total=count)

    def fit(self, checkpoint: Path) -> Training | None:
        self.classifier.fit(self.data.texts("train"), self.data.targets("train"))
        return None

    def restore(self, checkpoint: Path, training: Training) -> None:
        raise AssertionError("a baseline keeps no checkpoint")

    def predict(self, data: PromptData, part: Part) -> Predictions:
        probability_BC = torch.from_numpy(self.classifier.probabilities(data.texts(part))).float()
        count = len(probability_BC)
        return Predictions(
            row_B=torch.arange(count),
            probability_BC=probability_BC,
            target_B=torch.tensor(data.targets(part)),
            nll_B=torch.full((count,), float("nan")),
            num_tokens_B=torch.ones(count),
        )

    def log(self, metrics: Mapping[str, float]) -> None:
        """A baseline has no steps, so no curve to log; its record holds the metrics."""

    def close(self, *, failed: bool) -> None:
        """A baseline opens nothing."""

    def ship(self, folder: RunFolder) -> None:
        """A baseline is there to be compared, not to be shipped."""


def parameters_line(parameters: Parameters) -> str:
    """The line PEFT's tutorials print, to the letter."""
    share = 100 * parameters.trainable / parameters.total
    return (
        f"trainable params: {parameters.trainable:,d} || "
        f"all params: {parameters.total:,d} || trainable%: {share}"
    )


def last_states(trainer: Trainer) -> list[LastState]:
    """The callbacks that keep what a run goes on from: one, or none."""
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, LastState)]


def _readable(checkpoint: Path, packed: Sequence[str] | None = None) -> Path | None:
    """The checkpoint to go on from; None, and a line in the log, if none is there, is whole, and is theirs.

    `packed` are the runs that train together.
    """
    if not checkpoint.exists():
        return None
    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        log.warning("%s cannot be read (%s): training starts from the beginning", checkpoint, error)
        return None
    if "loops" not in state:
        log.warning("%s holds the end of a packed run: training starts from the beginning", checkpoint)
        return None
    if packed is not None and state["joint"]["names"] != packed:
        log.warning(
            "%s is of other runs (%s): training starts from the beginning",
            *(checkpoint, ", ".join(state["joint"]["names"])),
        )
        return None
    log.info("going on after step %d, from %s", state["global_step"], checkpoint)
    return checkpoint


def _best_checkpoint(trainer: Trainer) -> ModelCheckpoint | None:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return callback
    return None
