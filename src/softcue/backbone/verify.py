"""Whether the stream engine computes what a model's own untouched forward does, found when it is loaded.

A few rows are scored by both: prompts in front, behind and within the text, keys and values in
front, labels that share tokens, and the gradient of the scores with respect to each prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from softcue.backbone.base import Backbone
from softcue.backbone.probes import described
from softcue.contracts import BackboneSpec, Batch, Choices, Ids, PaddedRows, PromptBank
from softcue.errors import BackboneError

TOLERANCE = 1e-5
"""Largest difference, relative to the largest value."""
LARGE = 10**9
"""Parameters from which on results are compared in fp32, as float64 would take too much memory."""
FP32_GRADIENT_TOLERANCE = 1e-3
"""In fp32, rounding alone moves the gradients of a model of 30 layers by 1e-4."""
NUM_VIRTUAL, LENGTHS = 3, (6, 10, 4, 8, 12, 5, 16, 32)
LONGEST_ROW = NUM_VIRTUAL + max(LENGTHS) + 3

Results = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rows and a bank of prompts that they are scored with."""

    bank: PromptBank
    rows: tuple[Ids, ...]


def cases_for(spec: BackboneSpec) -> dict[str, Case]:
    """One case for each place where a prompt may stand, by name."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(5, spec.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    # The first two begin alike.
    words[1, :4] = words[0, :4]
    texts = [tuple(row[:length].tolist()) for row, length in zip(words, LENGTHS, strict=True)]
    virtual = tuple(-1 - k for k in range(NUM_VIRTUAL))
    ids = torch.randint(5, spec.vocab_size, (2 * NUM_VIRTUAL,), generator=generator)
    vectors_IP = spec.embed(ids).detach().float().cpu()
    noise = torch.randn(vectors_IP.shape, generator=generator) * vectors_IP.std()
    embeddings_TPD = (vectors_IP + noise).unflatten(0, (2, NUM_VIRTUAL))
    soft = PromptBank(embeddings_TPD=embeddings_TPD)
    front = tuple(virtual + text for text in texts)
    found = {
        "a prompt in front": Case(bank=soft, rows=front),
        "a prompt behind the text": Case(bank=soft, rows=tuple(text + virtual for text in texts)),
        "a prompt within the text": Case(
            bank=soft, rows=tuple(virtual[:1] + text[:3] + virtual[1:] + text[3:] for text in texts)
        ),
    }
    if spec.prefix_refusal is None:
        pairs = [spec.key_values(one_PD) for one_PD in embeddings_TPD]
        keys, values = (torch.stack(both).cpu() for both in zip(*pairs, strict=True))
        bank = PromptBank(
            keys_TLHPK=keys + torch.randn(keys.shape, generator=generator) * 0.1 * keys.std(),
            values_TLHPK=values + torch.randn(values.shape, generator=generator) * 0.1 * values.std(),
        )
        found["keys and values in front"] = Case(bank=bank, rows=front)
    return found


def results(lm: Backbone, cases: Mapping[str, Case]) -> dict[str, Tensor]:
    """What a model gives for every case: scores of all labels, and gradients of the right one's."""
    found = {}
    for name, case in cases.items():
        bank = _trainable(case.bank.to(lm.device))
        batch = _batch(case.rows, _choices(lm.spec))
        scores_BC = lm.score(bank, batch, batch.choices).log_likelihood_BC
        gradients = torch.autograd.grad(scores_BC[:, 0].sum(), list(bank.tensors().values()))
        found[f"scores with {name}"] = scores_BC.detach().cpu()
        found[f"gradients of {name}"] = torch.cat([gradient.flatten().cpu() for gradient in gradients])
    return found


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a model's own forward gives for some cases, in the widest type that it runs in."""

    dtype: torch.dtype
    cases: Mapping[str, Case]
    results: Results


def reference(lm: Backbone) -> Reference:
    """Run a model's own cases: in float64, in which rounding hides no difference, or in fp32.

    Raises:
        BackboneError: it runs in neither.
    """
    for dtype in (torch.float64, torch.float32):
        if dtype == torch.float64 and lm.spec.num_parameters >= LARGE:
            continue
        try:
            with in_dtype(lm.model, dtype):
                cases = cases_for(lm.spec)
                found = Reference(dtype=dtype, cases=cases, results=results(lm, cases))
        except Exception as error:  # noqa: BLE001 - whatever a family raises, such as experts without float64
            failure = f"its own forward fails in {dtype} ({described(error)})"
        else:
            if all(values.isfinite().all() for values in found.results.values()):
                return found
            failure = f"its own forward gives numbers that are not finite in {dtype}"
    raise BackboneError(failure)


def expect_equal(ours: Results, expected: Reference) -> None:
    """Compare results with those of the model's own forward, both computed in the same type.

    Raises:
        BackboneError: which differ, and by how much.
    """
    for name, values in expected.results.items():
        difference = float((ours[name] - values).abs().max() / values.abs().max())
        rounded = expected.dtype == torch.float32 and name.startswith("gradients")
        if not difference <= (FP32_GRADIENT_TOLERANCE if rounded else TOLERANCE):
            raise BackboneError(f"{name} would be {difference:.1g} away from those of its own forward")


def expect_as_close(ours: Results, own: Results, exact: Results) -> None:
    """In lower precision, be no further from the exact results than the model's own forward is.

    Raises:
        BackboneError: they are further.
    """
    kinds = ("scores", "gradients")
    for kind in kinds:
        our_error, own_error = (
            torch.cat([_relative_error(of[name], exact[name]) for name in exact if name.startswith(kind)])
            .square()
            .mean()
            .sqrt()
            for of in (ours, own)
        )
        if not our_error <= own_error:
            raise BackboneError(
                f"its {kind} would be {our_error:.1g} away from the exact ones, and its own forward's are "
                f"{own_error:.1g}"
            )


@contextmanager
def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """While this is open, all weights are of a wider type; afterwards they are what they were, to the bit."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, own in zip(tensors, before, strict=True):
            tensor.data = tensor.data.to(own)


def _trainable(bank: PromptBank) -> PromptBank:
    """The same prompts as leaves that gradients reach."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in bank.tensors().items()}
    return PromptBank(
        embeddings_TPD=leaves.get("embeddings_TPD"),
        keys_TLHPK=leaves.get("keys_TLHPK"),
        values_TLHPK=leaves.get("values_TLHPK"),
    )


def _relative_error(values: Tensor, exact: Tensor) -> Tensor:
    return ((values - exact) / exact.abs().max()).flatten()


def _choices(spec: BackboneSpec) -> Choices:
    """Labels that share tokens, of which one is the beginning of another."""
    one, two, three, four = (index % spec.vocab_size for index in (20, 21, 22, 23))
    return ((one, two, three), (one, two), (four,), (one, four))


def _batch(rows: tuple[Ids, ...], choices: Choices) -> Batch:
    return Batch(
        rows=rows,
        choices=(choices,) * len(rows),
        target_B=torch.zeros(len(rows), dtype=torch.long),
        prompt_B=torch.arange(len(rows)) % 2,
        row_B=torch.arange(len(rows)),
        padded=PaddedRows.of(rows),
    )
