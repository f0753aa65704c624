"""In bfloat16 the plain engine decides as in fp32, and rounds no more than the model itself."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone.plain_lm import PlainLM
from softcue.contracts import PromptBank
from softcue.errors import BackboneError
from tests.backbone.family_table import LABELS, PADDED_WIDTH, PROMPTS, in_front
from tests.backbone.zoo import oracle_scores, tiny
from tests.tiny import batch_of, score_classes, tiny_tokenizer


def plain(model: PreTrainedModel) -> PlainLM:
    return PlainLM(model, tiny_tokenizer(), name="tiny")


def quantised(model: PreTrainedModel) -> PreTrainedModel:
    """A model that claims to be quantised."""
    model.config.quantization_config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    return model


def pads(lm: PlainLM) -> tuple[bool, bool]:
    """Whether rows are padded, and whether they are behind keys and values."""
    return lm.pads_are_exact, lm._pads_after_prefix


@pytest.mark.parametrize("family", ["mpt", "roformer", "inkling_text", "llama"])
def test_what_is_decided_of_pads_and_prefixes_does_not_depend_on_the_dtype(family: str) -> None:
    low, full = plain(tiny(family).bfloat16()), plain(tiny(family))
    assert pads(low) == pads(full)
    assert low.spec.prefix_refusal == full.spec.prefix_refusal


@pytest.mark.parametrize("family", ["prophetnet", "cpmant"])
def test_a_model_that_is_not_causal_is_refused_in_bfloat16_too(family: str) -> None:
    with pytest.raises(BackboneError, match="lets tokens see later ones"):
        plain(tiny(family).bfloat16())


def test_a_quantised_model_that_is_not_causal_is_refused() -> None:
    """By its gradients: quantised activations may be rounded by what comes after them."""
    with pytest.raises(BackboneError, match="lets tokens see later ones"):
        plain(quantised(tiny("prophetnet").bfloat16()))


def test_a_model_that_does_not_run_in_its_dtype_is_refused_with_the_reason() -> None:
    with pytest.raises(
        BackboneError,
        match=r"cannot run a row of tokens in torch.bfloat16 \(RuntimeError: expected m1 and m2",
    ):
        plain(tiny("inkling2_text").bfloat16())


def test_where_quantised_layers_round_by_their_company_rows_get_no_pads_and_no_prefix() -> None:
    model = quantised(tiny("llama").bfloat16())
    layer = next(module for module in model.modules() if isinstance(module, GradientCheckpointingLayer))
    # As if rounded by the scale of all tokens that run together.
    layer.register_forward_hook(lambda _, __, states: states * (1 + 0.002 * states.shape[1]))
    lm = plain(model)
    assert pads(lm) == (False, False)
    assert lm.spec.prefix_refusal is not None
    assert "backbone.dtype=float32" in lm.spec.prefix_refusal


def error(scores_BC: Tensor, exact_BC: Tensor) -> float:
    """Root of the mean squared difference."""
    return float((scores_BC - exact_BC).detach().square().mean().sqrt())


@pytest.mark.parametrize("in_layers", [False, True])
@pytest.mark.parametrize("family", ["mpt", "roformer", "llama"])
def test_scores_are_no_further_from_fp32_than_the_models_own(family: str, in_layers: bool) -> None:
    lm = plain(tiny(family).bfloat16())
    vectors_TPD = torch.randn(2, 3, lm.spec.hidden_size, generator=torch.Generator().manual_seed(1)) / 2
    bank = PromptBank(embeddings_TPD=vectors_TPD.bfloat16().float())
    prefix = None
    if in_layers:
        prefix = lm.key_values(vectors_TPD[0])
        bank = PromptBank(keys_TLHPK=prefix[0][None], values_TLHPK=prefix[1][None])

    def own(dtype: torch.dtype) -> Tensor:
        # In fp32, the weights that bfloat16 holds.
        model = tiny(family).bfloat16()
        cast(nn.Module, model).to(dtype)
        return oracle_scores(
            model,
            in_front(),
            LABELS,
            embeddings_TPD=None if in_layers else vectors_TPD.bfloat16().to(dtype),
            prompts=PROMPTS,
            prefix=None if prefix is None else (prefix[0].to(dtype), prefix[1].to(dtype)),
        )

    exact_BC = own(torch.float32)
    for width in (0, PADDED_WIDTH):
        batch = batch_of(in_front(), LABELS, prompts=PROMPTS, width=width)
        ours_BC = score_classes(lm, bank, batch).log_likelihood_BC
        # Rows that run together are summed in another order: other rounding, but not more.
        assert error(ours_BC, exact_BC) < 1.5 * error(own(torch.bfloat16), exact_BC)
