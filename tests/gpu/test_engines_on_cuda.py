"""Both engines on a GPU give what the plain forward gives on the CPU, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from softcue.backbone.base import Backbone
from softcue.backbone.engine import make_backbone
from softcue.contracts import PromptBank
from tests.tiny import (
    FAMILIES,
    HIDDEN,
    batch_of,
    plain_log_likelihood,
    score_classes,
    tiny_model,
    tiny_tokenizer,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
LABELS = ((20, 21, 22), (20, 21, 23), (24,))
PREFIX = [[-1, -2, -3, 5, 6, 7, 8], [-1, -2, -3, 5, 6, 9], [-1, -2, -3, 5, 6, 7, 8, 9, 10, 11]]
LAYOUTS = {
    "prefix": PREFIX,
    "suffix": [[5, 6, 7, 8, -1, -2, -3], [5, 6, 9, -1, -2, -3], [12, 6, -1, -2, -3]],
}
ENGINES = ("stream", "plain")


def on_cuda(family: str, engine: str, dtype: torch.dtype = torch.float32) -> Backbone:
    model = nn.Module.to(tiny_model(family), dtype=dtype)
    return make_backbone(model, tiny_tokenizer(), name="tiny", engine=engine).to("cuda")


def close(ours: Tensor, oracle: Tensor) -> float:
    return ((ours.cpu() - oracle).abs().max() / oracle.abs().max()).item()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scores_and_gradients_equal_the_cpus_plain_forward(family: str, layout: str, engine: str) -> None:
    embeddings = torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(1)).requires_grad_()
    oracle = plain_log_likelihood(
        tiny_model(family), PromptBank(embeddings_TPD=embeddings), LAYOUTS[layout], LABELS
    )
    (oracle_gradient,) = torch.autograd.grad(oracle[:, 0].sum(), embeddings)
    lm = on_cuda(family, engine)
    lm.limit_cache(1.0)
    bank = PromptBank(embeddings_TPD=embeddings).to(torch.device("cuda"))
    ours = score_classes(lm, bank, batch_of(LAYOUTS[layout], LABELS).to("cuda")).log_likelihood_BC
    (gradient,) = torch.autograd.grad(ours[:, 0].sum(), embeddings)
    assert ours.device.type == "cuda"
    assert close(ours.detach(), oracle.detach()) < 1e-4
    assert close(gradient, oracle_gradient) < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_equal_the_prompt_they_come_from(family: str, engine: str) -> None:
    lm = on_cuda(family, engine)
    embeddings = torch.randn(3, HIDDEN, device="cuda")
    keys, values = lm.key_values(embeddings)
    rows = batch_of(PREFIX, LABELS).to("cuda")
    expected = score_classes(lm, PromptBank(embeddings_TPD=embeddings[None]), rows).log_likelihood_BC
    bank = PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None])
    assert close(score_classes(lm, bank, rows).log_likelihood_BC, expected.cpu()) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_the_plan_is_as_near_to_float32_as_the_models_own_forward(family: str) -> None:
    banks = [
        PromptBank(embeddings_TPD=torch.randn(1, 3, HIDDEN, generator=torch.Generator().manual_seed(seed)))
        for seed in range(20)
    ]
    model = tiny_model(family)
    oracles = [plain_log_likelihood(model, bank, PREFIX, LABELS) for bank in banks]
    rows = batch_of(PREFIX, LABELS).to("cuda")
    errors = {}
    for engine in ENGINES:
        lm = on_cuda(family, engine, torch.bfloat16)
        errors[engine] = sum(
            close(score_classes(lm, bank.to(torch.device("cuda")), rows).log_likelihood_BC, oracle)
            for bank, oracle in zip(banks, oracles, strict=True)
        )
    assert errors["stream"] < 1.2 * errors["plain"]
