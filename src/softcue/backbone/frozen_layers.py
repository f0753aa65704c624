"""Frozen layers in fewer passes over memory than the general ones take.

Each computes what the layer it replaces computes, keeps for the backward pass only what the gradient of
its input needs, and gives weights no gradient.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear
from transformers.models.llama.modeling_llama import LlamaRMSNorm

# oneDNN keeps compiled code for every shape it has multiplied, 1024 by default. Streams have a new length
# in every step, so this would grow by hundreds of megabytes; one step needs about twenty. oneDNN reads the
# variable at its first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


def frozen_linear(module: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward`, [..., in] to [..., out] in the weight's dtype; float32 on a CPU runs on oneDNN.

    PyTorch runs float32 products on a CPU with MKL, which does not use the full vector width of AMD's
    processors. oneDNN, in the same wheel, does, and needs no packed copy of the weights: 191 GFLOP/s
    instead of 139 on the machine of experiments/speed/table.md.
    """
    # Without weights (on "meta", where parameters are counted) nothing is cast.
    if x.is_meta or not torch.is_autocast_enabled(x.device.type):
        x = x.to(module.weight.dtype)
        if x.dtype == torch.float32 and x.device.type == "cpu" and torch.backends.mkldnn.is_available():
            return _product(x, module.weight, module.bias)
    return linear(x, module.weight, module.bias)


def frozen_rms_norm(module: LlamaRMSNorm, x_ND: Tensor) -> Tensor:
    """`LlamaRMSNorm.forward` [..., D]: x / sqrt(mean(x²) + eps) * weight, in fp32, to the weight's dtype."""
    return _rms_norm(x_ND, module.weight, module.variance_epsilon)


def frozen_layer_norm(module: nn.LayerNorm, x_ND: Tensor) -> Tensor:
    """`nn.LayerNorm.forward` [..., D], in fp32, to the weight's dtype."""
    return layer_norm_fp32(module, x_ND).to(module.weight.dtype)


def layer_norm_fp32(module: nn.LayerNorm, x_ND: Tensor) -> Tensor:
    """`nn.LayerNorm.forward` [..., D], in fp32, with an fp32 result."""
    bias = cast(Tensor | None, module.bias)
    return layer_norm(
        x_ND.float(),
        module.normalized_shape,
        module.weight.float(),
        None if bias is None else bias.float(),
        module.eps,
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return _onednn(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _onednn(gradients[0], ctx.weight.t(), None), None, None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        x32_ND = x_ND.float()
        scale_N1 = x32_ND.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_ND, scale_N1)
        ctx.weight_D = weight_D
        return (x32_ND * scale_N1 * weight_D).to(weight_D.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x_ND, scale_N1 = ctx.saved_tensors
        normed_ND = x_ND.float() * scale_N1
        gradient_ND = gradients[0].float() * ctx.weight_D
        along_N1 = (gradient_ND * normed_ND).mean(-1, keepdim=True)
        gradient_ND = gradient_ND.addcmul(normed_ND, along_N1, value=-1.0).mul_(scale_N1)
        return gradient_ND.to(x_ND.dtype), None, None


# torch does not type `apply`.
_product: Callable[[Tensor, Tensor, Tensor | None], Tensor] = _Product.apply
_rms_norm: Callable[[Tensor, Tensor, float], Tensor] = _RMSNorm.apply
