"""Losses of several batches in one pass against each batch's own pass."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from softcue.backbone.scoring import TargetStates, gather_paths, trie_of
from softcue.contracts import Batch, Choices, PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import ChoiceLoss, LanguageModelLoss, ScoresObjective, TFewLoss
from tests.tiny import HIDDEN, batch_of, plain_log_likelihood, tiny_lm, tiny_model

Weights = tuple[float, float]
CHOICES = ((20, 21), (22,))
SCORING = Scoring(per_token=False)
T_FEW = TFewLoss(unlikelihood=1.0, length_normalised=1.0)


def embeddings(count: int, *, seed: int) -> Tensor:
    return torch.randn(count, 2, HIDDEN, generator=torch.Generator().manual_seed(seed))


def pairs() -> tuple[list[PromptBank], list[Batch]]:
    """A prompt for each of two tasks, one prompt for both tasks, and a prompt for one task."""
    banks = [PromptBank(embeddings_TPD=embeddings(count, seed=at)) for at, count in enumerate((2, 1, 1))]
    rows = [[-1, -2, 5, 6], [-1, -2, 7, 9, 8], [-1, -2, 3]]
    two_tasks = batch_of(rows, CHOICES, prompts=[0, 1, 0], targets=[0, 1, 0])
    return banks, [two_tasks, two_tasks, batch_of(rows[:2], CHOICES, targets=[1, 0])]


@pytest.mark.parametrize("objective", [LanguageModelLoss(), ChoiceLoss(), T_FEW])
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


def t_few_written_out(
    bank: PromptBank, rows: list[list[int]], targets: list[int], weights: Weights
) -> Tensor:
    """The equations of 2205.05638, section 3.2, over the model's own forward and one token at a time."""
    model, losses = tiny_model("llama"), []
    for row, right in zip(rows, targets, strict=True):
        of_tokens = [
            [
                plain_log_likelihood(model, bank, [[*row, *label[:at]]], ((token,),))[0, 0]
                for at, token in enumerate(label)
            ]
            for label in CHOICES
        ]
        beta_C = torch.stack([torch.stack(tokens).mean() for tokens in of_tokens])
        wrong = [token for at, tokens in enumerate(of_tokens) if at != right for token in tokens]
        unlikelihood = -torch.stack([(1 - token.exp()).log() for token in wrong]).mean()
        losses.append(
            -beta_C[right]
            + weights[0] * unlikelihood
            - weights[1] * (beta_C[right] - beta_C.exp().sum().log())
        )
    return torch.stack(losses).mean()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 0.0), (0.0, 2.0), (0.0, 0.0)])
def test_t_few_is_its_equations(weights: Weights) -> None:
    leaf = embeddings(1, seed=0).requires_grad_()
    bank, rows, targets = PromptBank(embeddings_TPD=leaf), [[-1, -2, 5, 6], [-1, -2, 7, 9, 8]], [0, 1]
    objective = TFewLoss(unlikelihood=weights[0], length_normalised=weights[1])
    found = objective(tiny_lm("llama"), bank, batch_of(rows, CHOICES, targets=targets), SCORING)
    expected = t_few_written_out(bank, rows, targets, weights)
    gradients = [torch.autograd.grad(loss, leaf)[0] for loss in (found.mean, expected)]
    torch.testing.assert_close(found.mean, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)


def test_t_few_leaves_out_classes_that_a_row_does_not_have() -> None:
    bank, lm = PromptBank(embeddings_TPD=embeddings(1, seed=0)), tiny_lm("llama")
    two, three = (batch_of([[-1, -2, 5]], choices, targets=[1]) for choices in (CHOICES, (*CHOICES, (23,))))
    alone = torch.stack([T_FEW(lm, bank, batch, SCORING).mean for batch in (two, three)])
    together = T_FEW(lm, bank, Batch.concat([two, three]), SCORING).mean
    torch.testing.assert_close(together, alone.mean(), rtol=1e-5, atol=1e-6)


def test_a_wrong_label_of_probability_one_has_a_finite_unlikelihood() -> None:
    certain_E = torch.zeros(1, requires_grad=True)
    unlikelihood_BC = gather_paths(certain_E, [trie_of(((20,),))]).log_unlikelihood_BC
    assert unlikelihood_BC is not None
    torch.testing.assert_close(unlikelihood_BC, torch.tensor([[1e-6]]).log())
    (gradient_E,) = torch.autograd.grad(unlikelihood_BC.sum(), certain_E)
    assert bool(gradient_E.isfinite().all())
