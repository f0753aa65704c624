"""Comparison of the stream engine with a model's own untouched forward, when the model is loaded.

Both score a few rows: prompts before, after and within the text, keys and values in front, labels that
share tokens, and the gradients of the scores with respect to each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.backbone.probes import describe_error, in_dtype
from softcue.contracts import BackboneSpec, Batch, Choices, Ids, PaddedRows, PromptBank
from softcue.errors import BackboneError

TOLERANCE = 1e-5
"""Largest difference allowed, relative to the largest value."""
LARGE = 10**9
"""Models with this many parameters or more are compared in fp32, as float64 would need too much memory."""
FP32_GRADIENT_TOLERANCE = 1e-3
"""In fp32, rounding alone moves the gradients of a model of 30 layers by 1e-4."""
NUM_VIRTUAL, LENGTHS = 3, (6, 10, 4, 8, 12, 5, 16, 32)
LONGEST_ROW = NUM_VIRTUAL + max(LENGTHS) + 3

Results = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rows, and the bank of prompts that they are scored with."""

    bank: PromptBank
    rows: tuple[Ids, ...]


def cases_for(spec: BackboneSpec) -> dict[str, Case]:
    """One case for each place where a prompt can be, by name."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(5, spec.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    # The first two share their beginning.
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
        "a prompt after the text": Case(bank=soft, rows=tuple(text + virtual for text in texts)),
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


def late_cases_for(spec: BackboneSpec) -> dict[str, Case]:
    """A prompt that enters above the first layer, if the model takes one."""
    if spec.entry_refusal is not None:
        return {}
    front = cases_for(spec)["a prompt in front"]
    return {"a late prompt": replace(front, bank=replace(front.bank, first_layer=spec.num_layers // 2))}


def results(lm: Backbone, cases: Mapping[str, Case]) -> dict[str, Tensor]:
    """Scores of all labels, and gradients of the right label's score, for every case."""
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
    """The results of a model's own forward for some cases, in the widest dtype that it runs in."""

    dtype: torch.dtype
    cases: Mapping[str, Case]
    results: Results
    late: tuple[Mapping[str, Case], Results]
    """Prompts that enter above the first layer, and their results."""


def reference(lm: Backbone) -> Reference:
    """Run a model's cases in float64, where rounding hides no difference, or else in fp32.

    Raises:
        BackboneError: the model runs in neither.
    """
    for dtype in (torch.float64, torch.float32):
        if dtype == torch.float64 and lm.spec.num_parameters >= LARGE:
            continue
        try:
            with in_dtype(lm.model, dtype):
                cases = cases_for(lm.spec)
                late = late_cases_for(lm.spec)
                found = Reference(
                    dtype=dtype, cases=cases, results=results(lm, cases), late=(late, results(lm, late))
                )
        except Exception as error:  # noqa: BLE001 - families raise anything, such as experts without float64
            failure = f"its own forward fails in {dtype} ({describe_error(error)})"
        else:
            if all(values.isfinite().all() for values in found.results.values()):
                return found
            failure = f"its own forward gives non-finite numbers in {dtype}"
    raise BackboneError(failure)


def entry_refusal(ours: Backbone, expected: Reference) -> str | None:
    """Why this engine takes no prompts above the first layer, if its results for them are others."""
    cases, exact = expected.late
    try:
        with in_dtype(ours.model, expected.dtype):
            expect_equal(results(ours, cases), replace(expected, results=exact))
    except Exception as error:  # noqa: BLE001 - families raise anything
        return f"its stream does not run it ({describe_error(error)})"
    return None


def expect_equal(ours: Results, expected: Reference) -> None:
    """Compare results with those of the model's own forward, both computed in the same dtype.

    Raises:
        BackboneError: some differ; the message says which, and by how much.
    """
    for name, values in expected.results.items():
        difference = float((ours[name] - values).abs().max() / values.abs().max())
        rounded = expected.dtype == torch.float32 and name.startswith("gradients")
        if not difference <= (FP32_GRADIENT_TOLERANCE if rounded else TOLERANCE):
            raise BackboneError(f"{name} would differ by {difference:.1g} from those of its own forward")


def expect_as_close(ours: Results, own: Results, exact: Results) -> None:
    """In lower precision, check that results are as close to the exact ones as the model's own are.

    Raises:
        BackboneError: their error is larger.
    """
    for kind in ("scores", "gradients"):
        our_error, own_error = (
            torch.cat([_relative_error(of[name], exact[name]) for name in exact if name.startswith(kind)])
            .square()
            .mean()
            .sqrt()
            for of in (ours, own)
        )
        if not our_error <= own_error:
            raise BackboneError(
                f"its {kind} would be off by {our_error:.1g}, and those of its own forward are off by "
                f"{own_error:.1g}"
            )


def _trainable(bank: PromptBank) -> PromptBank:
    """The same prompts as leaf tensors with gradients."""
    leaves: dict[str, Any] = {
        name: tensor.detach().clone().requires_grad_() for name, tensor in bank.tensors().items()
    }
    return replace(bank, **leaves)


def _relative_error(values: Tensor, exact: Tensor) -> Tensor:
    return ((values - exact) / exact.abs().max()).flatten()


def _choices(spec: BackboneSpec) -> Choices:
    """Labels that share tokens; one is the beginning of another."""
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
