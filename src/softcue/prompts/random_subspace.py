"""A prompt in a random subspace: black-box tuning (BBT, Sun et al. 2022, arXiv 2201.03514, section 3).

The prompt is p0 + A z (equation 2): p0 is the initialiser's, A is drawn once, and only z, of few numbers, is
searched. `optimizer=cma_es` searches without gradients; with them it is prompt tuning in d dimensions.

It differs from the paper in A: normal, with the variance that gives A z the spread of the vocabulary's
embeddings when z is standard normal, which the authors found better in their next paper (BBTv2, arXiv
2205.11200, section 4.2); the paper's is uniform, of a size that suits its one model.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser, SampledVocabulary

NUM_SAMPLED = 4096
"""Vocabulary tokens whose embeddings' spread is measured."""


class RandomSubspace(SoftPrompt):
    """The coordinates z of a point in a random subspace: d parameters."""

    start_PD: Tensor
    directions_dW: Tensor

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        dimension: int,
        scale: float,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        start_PD = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        words_ND = SampledVocabulary(top=None).vectors(
            spec, num_tokens=NUM_SAMPLED, width=width, generator=generator
        )
        std = scale * float(words_ND.std()) / dimension**0.5
        self.register_buffer("start_PD", start_PD)
        self.register_buffer(
            "directions_dW", std * torch.randn(dimension, start_PD.numel(), generator=generator)
        )
        self.z_d = nn.Parameter(torch.zeros(dimension))

    def forward(self) -> PromptBank:
        offset_W = self.z_d @ self.directions_dW
        return PromptBank(embeddings_TPD=(self.start_PD + offset_W.view_as(self.start_PD))[None])
