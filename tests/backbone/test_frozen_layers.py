"""Frozen layers have the results and gradients of the layers that they replace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from softcue.backbone.frozen_layers import frozen_layer_norm, frozen_linear, frozen_rms_norm, layer_norm_fp32


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 8), (1, 5, 8), (2, 3, 8), (0, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_linear_layer_equals_torchs(bias: bool, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 6, bias=bias, dtype=dtype).requires_grad_(False)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    ours, theirs = frozen_linear(layer, x), layer(x)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    (our_gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (their_gradient,) = torch.autograd.grad((theirs * weights).sum(), x)
    torch.testing.assert_close(our_gradient, their_gradient)


def test_autocast_applies_to_a_frozen_linear_layer() -> None:
    layer = nn.Linear(8, 6).requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frozen_linear(layer, torch.randn(3, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_frozen_layer_norm_equals_torchs_and_takes_wider_input(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(16, bias=bias, dtype=dtype).requires_grad_(False)
    norm.weight.normal_(1, 0.3)
    x = (3 * torch.randn(2, 5, 16)).to(dtype)
    torch.testing.assert_close(frozen_layer_norm(norm, x), norm(x))
    assert frozen_layer_norm(norm, x.float()).dtype == dtype
    assert layer_norm_fp32(norm, x).dtype == torch.float32
    torch.testing.assert_close(layer_norm_fp32(norm, x).to(dtype), norm(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_rms_norm_equals_llamas_in_fp32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = LlamaRMSNorm(16).to(dtype).requires_grad_(False)
    norm.weight.normal_(1, 0.3)
    x = (3 * torch.randn(2, 5, 16)).to(dtype).requires_grad_()
    exact = copy.deepcopy(norm).float()(x.float())
    ours = frozen_rms_norm(norm, x)
    torch.testing.assert_close(ours, exact.to(dtype))
    weights = torch.randn_like(ours)
    (our_gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (exact_gradient,) = torch.autograd.grad((exact * weights).sum(), x)
    torch.testing.assert_close(our_gradient, exact_gradient)
