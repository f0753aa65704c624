"""Ensembles against their members, run separately and combined by hand."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from softcue.backbone.scoring import TargetScores
from softcue.contracts import PromptBank, Vote
from softcue.evaluation.predictions import combine_votes, predict, predict_batch
from softcue.evaluation.scoring import Scoring
from tests.tiny import FAMILIES, HIDDEN, batch_of, score_classes, tiny_lm

CHOICES = ((20, 21), (20, 22, 23), (24,))
ROWS = [[-1, -2, 5, 6], [-1, -2, 7], [-1, -2, 8, 9, 10]]
SUM = Scoring(per_token=False)


def members(count: int, *, seed: int = 0) -> list[PromptBank]:
    generator = torch.Generator().manual_seed(seed)
    return [
        PromptBank(embeddings_TPD=torch.randn(1, 2, HIDDEN, generator=generator) * 3) for _ in range(count)
    ]


def alone(family: str, banks: list[PromptBank]) -> Tensor:
    """Each member's log-likelihoods, in a separate pass: [M, B, C]."""
    batch = batch_of(ROWS, CHOICES)
    with torch.no_grad():
        return torch.stack([score_classes(tiny_lm(family), b, batch).log_likelihood_BC for b in banks])


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_likelihood_is_the_mean_of_the_members_likelihoods(family: str) -> None:
    banks = members(3)
    expected_BC = alone(family, banks).exp().mean(dim=0)
    expected_BC = expected_BC / expected_BC.sum(dim=1, keepdim=True)
    bank = PromptBank.concat(banks, vote="mean_likelihood")
    result = predict(tiny_lm(family), bank, [batch_of(ROWS, CHOICES)], SUM)
    assert torch.allclose(result.probability_BC, expected_BC, atol=1e-5)


def random_scores(*, members: int, seed: int) -> Tensor:
    """Log-likelihoods of three classes by each member: [B, M, C]."""
    return torch.randn(50, members, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(dim=2)


def majority(each_BMC: Tensor) -> Tensor:
    flat = TargetScores(
        log_likelihood_BC=each_BMC.flatten(0, 1), num_tokens_BC=torch.ones(50 * len(each_BMC[0]), 3)
    )
    return combine_votes(flat, each_BMC.shape[1], "majority", SUM)[1]


def test_majority_counts_the_votes() -> None:
    each_BMC = random_scores(members=5, seed=0)
    for ballots, winner in zip(
        each_BMC.argmax(2).tolist(), majority(each_BMC).argmax(1).tolist(), strict=True
    ):
        assert ballots.count(winner) == max(ballots.count(choice) for choice in ballots)


def test_a_tie_goes_to_the_class_of_higher_mean_likelihood() -> None:
    each_BMC = random_scores(members=2, seed=1)
    ballots_BM = each_BMC.argmax(dim=2)
    mean_B2 = each_BMC.exp().mean(dim=1).gather(1, ballots_BM)
    tied_B = ballots_BM[:, 0] != ballots_BM[:, 1]
    assert tied_B.any()
    most_likely_B = ballots_BM.gather(1, mean_B2.argmax(dim=1, keepdim=True)).squeeze(1)
    assert torch.equal(majority(each_BMC).argmax(dim=1)[tied_B], most_likely_B[tied_B])


@pytest.mark.parametrize("family", FAMILIES)
def test_members_in_one_pass_vote_as_in_separate_passes(family: str) -> None:
    banks = members(3)
    expected_BC = majority_of_three(alone(family, banks))
    bank = PromptBank.concat(banks, vote="majority")
    result = predict(tiny_lm(family), bank, [batch_of(ROWS, CHOICES)], SUM)
    assert torch.allclose(result.probability_BC, expected_BC, atol=1e-5)


def majority_of_three(each_MBC: Tensor) -> Tensor:
    """Shares of the votes, written out."""
    mean_BC = each_MBC.exp().mean(dim=0)
    votes_BC = (each_MBC == each_MBC.amax(dim=2, keepdim=True)).sum(dim=0)
    return (votes_BC + mean_BC / mean_BC.sum(dim=1, keepdim=True)) / 4


@pytest.mark.parametrize("vote", get_args(Vote))
def test_an_ensembles_probabilities_sum_to_one_and_its_nll_is_that_of_the_mean(
    vote: Vote,
) -> None:
    banks = members(3)
    batch = batch_of(ROWS, CHOICES, targets=[0, 1, 2])
    with torch.no_grad():
        result = predict_batch(tiny_lm("llama"), PromptBank.concat(banks, vote=vote), batch, SUM)
    assert torch.allclose(result.probability_BC.sum(dim=1), torch.ones(3))
    own_MB = alone("llama", banks)[:, torch.arange(3), torch.arange(3)]
    assert torch.allclose(result.nll_B, -own_MB.exp().mean(dim=0).log(), atol=1e-4)


def test_a_mixed_batch_equals_its_rows_in_separate_passes() -> None:
    """Prompts of different lengths, as keys and values and as embeddings, in one forward pass."""
    lm = tiny_lm("llama")
    generator = torch.Generator().manual_seed(1)
    embeddings = [PromptBank(embeddings_TPD=torch.randn(1, n, HIDDEN, generator=generator)) for n in (1, 3)]
    prefixes = []
    for bank in embeddings:
        assert bank.embeddings_TPD is not None
        keys, values = lm.key_values(bank.embeddings_TPD[0])
        prefixes.append(PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None]))
    rows = [[-1, 5, 6, 7], [-1, -2, -3, 5, 9], [-1, 4]]
    prompts = [0, 1, 0]
    for banks in (embeddings, prefixes):
        with torch.no_grad():
            together = score_classes(
                lm, PromptBank.concat(banks), batch_of(rows, CHOICES, prompts=prompts)
            ).log_likelihood_BC
            apart = torch.cat(
                [
                    score_classes(lm, banks[prompt], batch_of([row], CHOICES)).log_likelihood_BC
                    for row, prompt in zip(rows, prompts, strict=True)
                ]
            )
        assert torch.allclose(together, apart, atol=1e-5)
