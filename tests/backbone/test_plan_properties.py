"""Random templates, batches and banks: the plan gives the plain forward's scores and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import PreTrainedModel

from softcue.backbone.forward import score_classes
from softcue.backbone.frozen_lm import FrozenLM
from softcue.contracts import Choices, PromptBank
from tests.tiny import FAMILIES, HIDDEN, batch_of, plain_log_likelihood, tiny_lm, tiny_model

WORDS = st.integers(4, 19)
LABELS = st.lists(
    st.lists(st.integers(20, 24), min_size=1, max_size=4).map(tuple), min_size=1, max_size=5, unique=True
)


@dataclass(frozen=True)
class Case:
    """A batch under one template, as T prompts wear it."""

    rows: list[list[int]]
    prompts: list[int]
    num_prompts: int
    num_virtual: int
    choices: Choices
    in_layers: bool
    width: int
    budget_gb: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Soft slots anywhere, anchors between them, shared or differing texts, pads, kept contexts or not."""
    in_layers = draw(st.booleans())
    pieces = draw(st.lists(st.sampled_from(["soft", "anchor", "text"]), min_size=1, max_size=5))
    pieces = ["soft", *[p for p in pieces if p != "soft"], "text"] if in_layers else [*pieces, "text"]
    num_rows, num_prompts = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    rows: list[list[int]] = [[] for _ in range(num_rows)]
    num_virtual = 0
    for piece in pieces:
        if piece == "soft":
            count = draw(st.integers(1, 3))
            shared = [-1 - num_virtual - k for k in range(count)]
            num_virtual += count
        else:
            shared = draw(st.lists(WORDS, min_size=1, max_size=3))
        for row in rows:
            row.extend(draw(st.lists(WORDS, max_size=6)) if piece == "text" else shared)
    for row in rows:
        row.append(draw(WORDS))
    return Case(
        rows=rows,
        prompts=draw(st.lists(st.integers(0, num_prompts - 1), min_size=num_rows, max_size=num_rows)),
        num_prompts=num_prompts,
        num_virtual=num_virtual,
        choices=tuple(draw(LABELS)),
        in_layers=in_layers,
        width=draw(st.integers(0, 40)),
        budget_gb=draw(st.sampled_from([0.0, 1e-6, 1.0])),
    )


@cache
def both(family: str) -> tuple[FrozenLM, PreTrainedModel]:
    return tiny_lm(family), tiny_model(family)


def banks(lm: FrozenLM, case: Case) -> tuple[PromptBank, PromptBank, list[Tensor]]:
    """Ours and the oracle's, and what takes gradients in ours. Keys and values: those of embeddings."""
    generator = torch.Generator().manual_seed(2)
    embeddings = torch.randn(case.num_prompts, max(1, case.num_virtual), HIDDEN, generator=generator)
    if not case.in_layers:
        leaf = embeddings.requires_grad_()
        return PromptBank(embeddings_TPD=leaf), PromptBank(embeddings_TPD=leaf), [leaf]
    keys, values = (
        torch.stack(each) for each in zip(*(lm.key_values(own) for own in embeddings), strict=True)
    )
    return PromptBank(keys_TLHPK=keys, values_TLHPK=values), PromptBank(embeddings_TPD=embeddings), []


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(case=cases())
def test_the_plan_equals_the_plain_forward(family: str, case: Case) -> None:
    lm, model = both(family)
    lm.contexts.set_budget(case.budget_gb)
    ours_bank, oracle_bank, leaves = banks(lm, case)
    batch = batch_of(case.rows, case.choices, prompts=case.prompts, width=case.width)
    oracle = plain_log_likelihood(model, oracle_bank, case.rows, case.choices, case.prompts)
    ours = score_classes(lm, ours_bank, batch).log_likelihood_BC
    assert (ours - oracle).abs().max() <= 1e-5 * max(1.0, oracle.abs().max().item())
    if leaves and case.num_virtual:
        weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
        (our_gradient,) = torch.autograd.grad((ours * weights).sum(), leaves)
        (oracle_gradient,) = torch.autograd.grad((oracle * weights).sum(), leaves)
        assert (our_gradient - oracle_gradient).norm() <= 1e-5 * max(1.0, oracle_gradient.norm().item())
