"""Losses of several batches in one pass against each batch's own pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from softcue.backbone.scoring import TargetStates
from softcue.contracts import Batch, Choices, PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import ChoiceLoss, LanguageModelLoss, ScoresObjective
from tests.tiny import HIDDEN, batch_of, tiny_lm

CHOICES = ((20, 21), (22,))
SCORING = Scoring(per_token=False)


def embeddings(count: int, *, seed: int) -> Tensor:
    return torch.randn(count, 2, HIDDEN, generator=torch.Generator().manual_seed(seed))


def pairs() -> tuple[list[PromptBank], list[Batch]]:
    """A prompt for each of two tasks, one prompt for both tasks, and a prompt for one task."""
    banks = [PromptBank(embeddings_TPD=embeddings(count, seed=at)) for at, count in enumerate((2, 1, 1))]
    rows = [[-1, -2, 5, 6], [-1, -2, 7, 9, 8], [-1, -2, 3]]
    two_tasks = batch_of(rows, CHOICES, prompts=[0, 1, 0], targets=[0, 1, 0])
    return banks, [two_tasks, two_tasks, batch_of(rows[:2], CHOICES, targets=[1, 0])]


@pytest.mark.parametrize("objective", [LanguageModelLoss(), ChoiceLoss()])
def test_batches_in_one_pass_have_the_losses_of_separate_passes(
    objective: ScoresObjective, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny_lm("llama")
    banks, batches = pairs()
    alone = [objective(lm, bank, batch, SCORING) for bank, batch in zip(banks, batches, strict=True)]
    passes: list[int] = []
    states = lm.states

    def count(bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetStates:
        passes.append(len(batch))
        return states(bank, batch, choices)

    monkeypatch.setattr(lm, "states", count)
    together = objective.losses(lm, banks, batches, SCORING)
    assert passes == [8]
    for joint, own in zip(together, alone, strict=True):
        assert float(joint.mean) == pytest.approx(float(own.mean), rel=1e-5)
        assert float(joint.weight) == float(own.weight)


def test_the_loss_of_one_batch_has_no_gradient_for_anothers_prompt() -> None:
    leaves = [embeddings(1, seed=seed).requires_grad_() for seed in range(2)]
    batch = batch_of([[-1, -2, 5]], CHOICES)
    banks = [PromptBank(embeddings_TPD=leaf) for leaf in leaves]
    first, _ = LanguageModelLoss().losses(tiny_lm("llama"), banks, [batch, batch], SCORING)
    first.mean.backward()
    assert [bool(leaf.grad is not None and leaf.grad.any()) for leaf in leaves] == [True, False]
