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

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Choices, PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.training.objectives import LanguageModelLoss
from tests.tiny import (
    FAMILIES,
    HIDDEN,
    batch_of,
    plain_hidden,
    plain_log_likelihood,
    score_classes,
    tiny_lm,
    tiny_model,
)

SAME_EXAMPLES = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
WORDS = st.integers(4, 19)
LABELS = st.lists(
    st.lists(st.integers(20, 24), min_size=1, max_size=4).map(tuple), min_size=1, max_size=5, unique=True
)


@dataclass(frozen=True)
class Case:
    """A batch of rows of one template that use T prompts."""

    rows: list[list[int]]
    prompts: list[int]
    num_prompts: int
    num_virtual: int
    lengths: tuple[int, ...]
    choices: Choices
    in_layers: bool
    width: int
    budget_gb: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Soft slots anywhere, words between them, shared or different texts, padding, kept contexts or not.

    Prefixes of one bank differ in length.
    """
    in_layers = draw(st.booleans())
    pieces = draw(st.lists(st.sampled_from(["soft", "words", "text"]), min_size=1, max_size=5))
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
    prompts = draw(st.lists(st.integers(0, num_prompts - 1), min_size=num_rows, max_size=num_rows))
    lengths = draw(st.lists(st.integers(1, num_virtual or 1), min_size=num_prompts, max_size=num_prompts))
    if in_layers:
        rows = [
            [*(-1 - k for k in range(lengths[prompt])), *row[num_virtual:]]
            for row, prompt in zip(rows, prompts, strict=True)
        ]
    return Case(
        rows=rows,
        prompts=prompts,
        num_prompts=num_prompts,
        num_virtual=num_virtual,
        lengths=tuple(lengths),
        choices=tuple(draw(LABELS)),
        in_layers=in_layers,
        width=draw(st.integers(0, 40)),
        budget_gb=draw(st.sampled_from([0.0, 1e-6, 1.0])),
    )


@cache
def both(family: str) -> tuple[StreamLM, PreTrainedModel]:
    return tiny_lm(family), tiny_model(family)


def leaves(lm: StreamLM, case: Case) -> list[Tensor]:
    """The prompts: random embeddings, or random keys and values."""
    generator = torch.Generator().manual_seed(2)
    shapes: list[tuple[int, ...]] = [(case.num_prompts, max(1, case.num_virtual), HIDDEN)]
    if case.in_layers:
        spec = lm.spec
        shapes = [
            (case.num_prompts, spec.num_layers, spec.num_kv_heads, case.num_virtual, spec.head_size)
        ] * 2
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def bank_of(case: Case, own: list[Tensor]) -> PromptBank:
    if case.in_layers:
        keys_TLHPK, values_TLHPK = (both[:, :, :, : max(case.lengths)] for both in own)
        lengths_T = torch.tensor(case.lengths)
        return PromptBank(keys_TLHPK=keys_TLHPK, values_TLHPK=values_TLHPK, lengths_T=lengths_T)
    return PromptBank(embeddings_TPD=own[0])


def assert_close(ours: Tensor, oracle: Tensor) -> None:
    assert (ours - oracle).norm() <= 1e-5 * max(1.0, oracle.norm().item())


@pytest.mark.parametrize("family", FAMILIES)
@SAME_EXAMPLES
@given(case=cases())
def test_the_plan_equals_the_plain_forward(family: str, case: Case) -> None:
    """Log-likelihoods of all classes, the loss of the labels, and the gradients of every prompt."""
    lm, model = both(family)
    lm.contexts.set_budget(case.budget_gb)
    own = leaves(lm, case)
    bank = bank_of(case, own)
    batch = batch_of(case.rows, case.choices, prompts=case.prompts, width=case.width)
    oracle = plain_log_likelihood(model, bank, case.rows, case.choices, case.prompts)
    ours = score_classes(lm, bank, batch).log_likelihood_BC
    assert (ours - oracle).abs().max() <= 1e-5 * max(1.0, oracle.abs().max().item())

    loss = LanguageModelLoss()(lm, bank, batch, Scoring(per_token=False)).mean
    oracle_loss = -oracle[:, 0].sum() / (len(case.rows) * len(case.choices[0]))
    assert_close(loss, oracle_loss)
    if case.num_virtual:
        weights = torch.linspace(-1, 1, ours.numel()).view_as(ours)
        for result, expected in (((ours * weights).sum(), (oracle * weights).sum()), (loss, oracle_loss)):
            our_gradients = torch.autograd.grad(result, own, retain_graph=True)
            oracle_gradients = torch.autograd.grad(expected, own, retain_graph=True)
            for our_gradient, oracle_gradient in zip(our_gradients, oracle_gradients, strict=True):
                assert_close(our_gradient, oracle_gradient)


@pytest.mark.parametrize("family", FAMILIES)
@SAME_EXAMPLES
@given(case=cases())
def test_hidden_states_equal_the_plain_forwards(family: str, case: Case) -> None:
    lm, model = both(family)
    lm.contexts.set_budget(case.budget_gb)
    bank = bank_of(case, leaves(lm, case)).detach()
    label = case.choices[0]
    batch = batch_of(case.rows, (label,), prompts=case.prompts, width=case.width)
    with torch.no_grad():
        ours_MD = lm.states(bank, batch, batch.choices).hidden_MD
        oracle_MD = torch.cat(
            [
                plain_hidden(model, bank, row, label, prompt)
                for row, prompt in zip(case.rows, case.prompts, strict=True)
            ]
        )
    assert (ours_MD - oracle_MD).abs().max() <= 1e-5 * max(1.0, oracle_MD.abs().max().item())
