"""Prompt tuning (Lester et al. 2021, arXiv 2104.08691, section 2): a prompt's embeddings are trained."""

from __future__ import annotations

from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser


class PromptTuning(SoftPrompt):
    """P vectors of the model's hidden size: P D parameters."""

    def __init__(
        self, *, spec: BackboneSpec, num_virtual_tokens: int, generator: Generator, initialiser: Initialiser
    ) -> None:
        super().__init__()
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        self.embeddings_PD = nn.Parameter(start_PD)

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=self.embeddings_PD[None])
