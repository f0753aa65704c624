"""Training without gradients: its losses, its steps and its resumption."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from cmaes import CMA
from omegaconf import DictConfig

from softcue.build.learners import build_learners
from softcue.contracts import Batch, PromptBank
from softcue.errors import ConfigError
from softcue.formats.prompt_file import load_bank
from softcue.plan import prepare
from softcue.runs.sealed import read_sealed
from softcue.runs.store import RunFolder
from softcue.training.evolution import Evolution
from softcue.training.evolution_learner import EvolutionLearner
from tests.composing import train_config
from tests.inspect.conftest import tiny_backbone
from tests.integration.conftest import CACHE
from tests.running import train_one

__all__ = ["tiny_backbone"]

DIMENSION = 5


@pytest.fixture
def config(tiny_backbone: Path, tmp_path: Path) -> DictConfig:
    return train_config(
        "experiment=quickstart",
        "prompt=black_box",
        "prompt.layout='[soft:3]{input}'",
        f"prompt.method.dimension={DIMENSION}",
        "optimizer.population=4",
        "backbone=local",
        f"backbone.path={tiny_backbone}",
        "backbone.name=tiny",
        "split.num_train=6",
        "split.num_test=4",
        "data.batch_size=4",
        "trainer.max_epochs=3",
        "callbacks.progress_bar=null",
        "trainer.enable_progress_bar=false",
        f"paths.runs={tmp_path / 'runs'}",
        f"paths.cache={CACHE}",
    )


def learner_of(config: DictConfig) -> EvolutionLearner:
    (learner,) = build_learners(prepare(config))
    assert isinstance(learner, EvolutionLearner)
    return learner


def bank_at(learner: EvolutionLearner, z: np.ndarray) -> PromptBank:
    """p0 + A z."""
    prompt = learner.member.prompt
    directions = cast(torch.Tensor, prompt.directions_dW)
    start_PD = cast(torch.Tensor, prompt.start_PD)
    return PromptBank(
        embeddings_TPD=(start_PD + (torch.tensor(z).float() @ directions).view_as(start_PD))[None]
    )


def loss_alone(learner: EvolutionLearner, z: np.ndarray, batches: Sequence[Batch]) -> float:
    """The mean negative log-likelihood of all label tokens, row by row and one candidate at a time."""
    total, tokens, bank = 0.0, 0, bank_at(learner, z)
    for batch in batches:
        for row in range(len(batch)):
            one = batch.select([row])
            with torch.no_grad():
                scores = learner.lm.score(bank, one, one.target_choices)
            total -= float(scores.log_likelihood_BC.sum())
            tokens += int(scores.num_tokens_BC.sum())
    return total / tokens


def test_a_run_is_the_librarys_search_on_losses_computed_alone(config: DictConfig) -> None:
    folder = train_one(config)
    learner = learner_of(config)
    batches = list(learner.data.train_dataloader())
    search = CMA(mean=np.zeros(DIMENSION), sigma=1.0, seed=0, population_size=4)
    best, best_loss = np.zeros(DIMENSION), np.inf
    for _ in range(3):
        candidates = [search.ask() for _ in range(4)]
        losses = [loss_alone(learner, z, batches) for z in candidates]
        if min(losses) < best_loss:
            best_loss, best = min(losses), candidates[int(np.argmin(losses))]
        search.tell(list(zip(candidates, losses, strict=True)))
    bank, _ = load_bank(folder.prompt_path)
    expected = bank_at(learner, best).embeddings_TPD
    assert bank.embeddings_TPD is not None
    assert expected is not None
    torch.testing.assert_close(bank.embeddings_TPD, expected, rtol=0, atol=1e-5)
    record = folder.record()
    assert record is not None
    assert record.training is not None
    assert record.training.best_value == pytest.approx(best_loss, abs=1e-5)
    assert record.training.epochs == 3
    assert record.parameters is not None
    assert record.parameters.trainable == DIMENSION


def test_a_search_that_is_interrupted_ends_with_the_same_prompt(
    config: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_one(config)
    config.paths.runs = str(tmp_path / "again")
    asked: list[int] = []
    losses = EvolutionLearner.losses

    def interrupted(
        self: EvolutionLearner, candidates: list[np.ndarray], batches: list[Batch]
    ) -> list[float]:
        asked.append(len(candidates))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return losses(self, candidates, batches)

    monkeypatch.setattr(EvolutionLearner, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_one(config)
    folder = RunFolder(tmp_path / "again", whole.path.name)
    assert len(json.loads(read_sealed(folder.checkpoint_path))["losses"]) == 1
    again = train_one(config)
    assert asked == [4, 4, 4, 4]  # one generation was kept, and one is computed again
    assert again.prompt_path.read_bytes() == whole.prompt_path.read_bytes()
    record = again.record()
    assert record is not None
    assert record.training is not None
    assert record.training.resumes == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["joint.seed=[0,1]"], r"joint is .* optimizer=cma_es already fills a pass"),
        (["callbacks=early_stopping"], r"callbacks has .*, and optimizer=cma_es keeps the candidate"),
        (["prompt=baseline/lora", "optimizer=cma_es"], r"prompt\.method is LoRA, an adapter with too many"),
        (["optimizer.population=1"], r"optimizer\.population is 1"),
    ],
)
def test_what_a_search_cannot_have_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(train_config("prompt=black_box", "dry=true", *overrides))


def test_more_numbers_or_processes_than_a_search_has_room_for_are_refused() -> None:
    evolution = Evolution(sigma=1.0, population=None)
    with pytest.raises(ConfigError, match=r"at most 4,000 numbers, and this prompt has 4,001"):
        evolution.search(np.zeros(4001), seed=0)
    with pytest.raises(ConfigError, match=r"trainer makes 2 processes"):
        evolution.expect_one_process(2)
    assert evolution.search(np.zeros(10), seed=0).population_size == 4 + int(3 * np.log(10))
