"""SuperPos-Prompt (Sadraei Javaheri et al. 2024, arXiv 2406.05279, section 3).

Token i's embedding is E w_i, a weighted sum of vectors that all tokens share: embeddings of words sampled
from the vocabulary. The frozen model never has dropout here, which is the paper's second finding.

It differs from the paper in its start: E holds the initialiser's vectors before the sampled words, and w_i
starts with 1 at the i-th of them and 0 elsewhere, so that the method starts where prompt tuning does.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser, SampledVocabulary


class SuperposedPrompt(SoftPrompt):
    """Weights of m sampled words and the start's P vectors: P (P + m) parameters.

    With `train_words` also their (P + m) D embeddings.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        num_words: int,
        top: int | None,
        train_words: bool,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        start_PD = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        sampled_mD = SampledVocabulary(top=top).vectors(
            spec, num_tokens=num_words, width=width, generator=generator
        )
        words_WD = torch.cat([start_PD, sampled_mD])
        self.weights_PW = nn.Parameter(torch.eye(num_virtual_tokens, len(words_WD)))
        if train_words:
            self.words_WD = nn.Parameter(words_WD)
        else:
            self.register_buffer("words_WD", words_WD)

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=(self.weights_PW @ self.words_WD)[None])
