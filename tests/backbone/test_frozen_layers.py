"""Layers in fewer passes give what the layers they stand in for give, and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from softcue.backbone.frozen_layers import frozen_linear, frozen_rms_norm


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


def test_autocast_lowers_a_frozen_linear_layers_precision_as_it_does_any() -> None:
    layer = nn.Linear(8, 6).requires_grad_(False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frozen_linear(layer, torch.randn(3, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_rms_norm_equals_llamas(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm = LlamaRMSNorm(16).to(dtype).requires_grad_(False)
    norm.weight.normal_(1, 0.3)
    x = (3 * torch.randn(2, 5, 16)).to(dtype).requires_grad_()
    ours, theirs = frozen_rms_norm(norm, x), norm(x)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    (our_gradient,) = torch.autograd.grad((ours * weights).sum(), x)
    (their_gradient,) = torch.autograd.grad((theirs * weights).sum(), x)
    torch.testing.assert_close(our_gradient, their_gradient)
