"""A method compared with its paper's formula, written out in the test: outputs, gradients, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.build.prompted import build_prompt
from softcue.contracts import PromptBank, SoftPrompt
from softcue.data.template import compose
from tests.composing import train_config
from tests.tiny import batch_of, score_targets

TOKENS = 4
LAYOUT = "prompt.layout='[soft:4]{input}'"
VIRTUAL = [-1 - k for k in range(TOKENS)]
BATCH = batch_of([[*VIRTUAL, 5, 6], [*VIRTUAL, 5, 9, 8]], ((20, 21), (22,)), targets=[0, 1])

Formula = Callable[[Mapping[str, Tensor]], PromptBank]
"""A bank of parameters by name."""


def make(lm: StreamLM, *overrides: str, layout: str = LAYOUT) -> SoftPrompt:
    """A method of four virtual tokens as a run builds it."""
    settings = train_config(*overrides, layout)
    return build_prompt(settings, lm.spec, compose(settings.prompt.layout, "{Tweet text} :"))


def count(prompt: SoftPrompt) -> int:
    """The number of trained numbers."""
    return sum(parameter.numel() for parameter in prompt.parameters())


def embeddings(prompt: SoftPrompt) -> Tensor:
    """The vectors of a method's only prompt: [P, D]."""
    bank: PromptBank = prompt()
    assert bank.embeddings_TPD is not None
    return bank.embeddings_TPD[0].detach()


def expect_formula(lm: StreamLM, prompt: SoftPrompt, formula: Formula) -> None:
    """The same bank, and the same gradient of the same loss, with every parameter at a random value."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in prompt.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    theirs = {name: p.detach().clone().requires_grad_() for name, p in prompt.named_parameters()}
    ours, expected = prompt(), formula(theirs)
    assert ours.tensors().keys() == expected.tensors().keys()
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(ours.tensors()[name], tensor, rtol=0, atol=1e-5)
    for bank in (ours, expected):
        score_targets(lm, bank, BATCH).log_likelihood_BC.sum().backward()
    for name, parameter in prompt.named_parameters():
        gradient, reference = parameter.grad, theirs[name].grad
        assert gradient is not None
        assert reference is not None, name
        assert (gradient - reference).norm() <= 1e-4 * reference.norm(), name
