"""A soft prompt that is trained without gradients: black-box tuning (BBT, Sun et al. 2022, arXiv 2201.03514).

One epoch is one generation, whose candidates are scored on every training row, all in the same passes
through the frozen model. The prompt that is kept is the candidate of the lowest training loss; the paper
keeps that of the highest score on validation rows, of which few-shot runs here have none.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from softcue.contracts import Batch
from softcue.errors import RunError, TrainingError
from softcue.runs.atomic import write_atomic
from softcue.runs.record import Training
from softcue.runs.sealed import read_sealed, sealed, set_aside
from softcue.training.evolution import Evolution
from softcue.training.learner import Fitted
from softcue.training.progress import hidden
from softcue.training.prompt_learner import PromptLearner, parameters_line

log = logging.getLogger(__name__)

Losses = list[list[float]]
"""Of each generation, the loss of each candidate."""


class EvolutionLearner(PromptLearner):
    """Searches the parameters of a prompt by CMA-ES.

    The losses of all generations are the whole state: a run that is resumed asks for the same candidates, and
    computes again only what it has no losses of.
    """

    def __init__(self, *, evolution: Evolution, **settings: Any) -> None:
        super().__init__(**settings)
        self.evolution = evolution

    @classmethod
    def fit(cls, learners: Sequence[Self], checkpoint: Path) -> list[Fitted | TrainingError]:
        return [learner._fit(checkpoint) for learner in learners]

    def _fit(self, checkpoint: Path) -> Fitted | TrainingError:
        began = time.perf_counter()
        log.info(parameters_line(self.parameters))
        if self.parameters.trainable == 0:
            return Fitted(training=None, seconds=0.0)
        parameters = list(self.member.prompt.parameters())
        start = parameters_to_vector(parameters).detach().numpy().astype(np.float64)
        search = self.evolution.search(start, seed=self.member.seed)
        losses, seconds = _earlier(checkpoint)
        resumes = int(bool(losses))
        batches: list[Batch] = list(self.data.train_dataloader())
        best, best_loss, best_step = start, math.inf, 0
        for generation in range(self._num_generations):
            candidates = [search.ask() for _ in range(search.population_size)]
            if generation == len(losses):
                losses.append(self.losses(candidates, batches))
                spent = seconds + time.perf_counter() - began
                _write(checkpoint, losses, spent)
            found = losses[generation]
            if min(found) == math.inf:
                return TrainingError(
                    f"no candidate of generation {generation + 1} has a finite loss; lower "
                    "optimizer.sigma or prompt.method.scale."
                )
            if min(found) < best_loss:
                best_loss, best_step = min(found), generation + 1
                best = candidates[found.index(best_loss)]
            search.tell(list(zip(candidates, found, strict=True)))
            self._log(generation + 1, min(found), best_loss)
        self._set(best)
        self.steps, self._trained_bank = self._num_generations, self.member.folded_bank()
        training = Training(
            steps=self.steps,
            epochs=self.steps,
            monitor="train/loss",
            best_value=best_loss,
            best_step=best_step,
            resumes=resumes,
        )
        return Fitted(training=training, seconds=seconds + time.perf_counter() - began)

    @torch.no_grad()
    def losses(self, candidates: Sequence[np.ndarray], batches: Sequence[Batch]) -> list[float]:
        """The mean loss of each candidate over all rows; infinite where it is not finite."""
        lm, banks = self._placed_lm, []
        for candidate in candidates:
            self._set(candidate)
            banks.append(self.member.folded_bank().to(lm.device))
        sums, weights = [0.0] * len(banks), 0.0
        for batch in batches:
            placed = batch.to(lm.device)
            of_batch = self.objective.losses(lm, banks, [placed] * len(banks), self.scoring)
            sums = [
                total + float(loss.mean * loss.weight) for total, loss in zip(sums, of_batch, strict=True)
            ]
            weights += float(of_batch[0].weight)
        return [total / weights if math.isfinite(total) else math.inf for total in sums]

    def _set(self, candidate: np.ndarray) -> None:
        vector_to_parameters(torch.from_numpy(candidate).float(), self.member.prompt.parameters())

    @property
    def _num_generations(self) -> int:
        given = (self.trainer.max_epochs, self.trainer.max_steps)
        return min(count for count in given if count is not None and count > 0)

    def _log(self, generation: int, loss: float, best: float) -> None:
        for logger in self.loggers:
            logger.log_metrics({"train/loss": loss, "epoch": generation}, step=generation)
        if hidden():
            log.info(
                "generation %d of %d: loss %.4g, best %.4g", generation, self._num_generations, loss, best
            )


def _earlier(checkpoint: Path) -> tuple[Losses, float]:
    """The losses of an interrupted run and the seconds they took; none if there are none of use."""
    if not checkpoint.exists():
        return [], 0.0
    try:
        state = json.loads(read_sealed(checkpoint))
    except RunError as error:
        log.warning("%s. It is now %s, and training starts again.", error, set_aside(checkpoint).name)
        return [], 0.0
    log.info("resuming after generation %d, from %s", len(state["losses"]), checkpoint)
    return state["losses"], state["seconds"]


def _write(checkpoint: Path, losses: Losses, seconds: float) -> None:
    write_atomic(checkpoint, sealed(json.dumps({"losses": losses, "seconds": seconds}).encode()))
