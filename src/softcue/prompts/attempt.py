"""Attentional mixtures of prompts (ATTEMPT, Asai et al. 2022, arXiv 2205.11961, section 3.2).

A row's prompt is the target task's own, plus a mixture of it and of frozen prompts that earlier runs trained
on source tasks. Attention weighs them: the row's query is LayerNorm(W_up SiLU(W_down x)) of the maximum x
over its words' embeddings, a prompt's key the maximum over its tokens, and a softmax turns their products
into weights. Trained are the target's prompt and the attention.

What differs from the paper. x is normalised first, as a decoder's embeddings are much smaller than T5's. The
softmax's temperature is 1, where the paper has D e for products that are as large in T5.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.saved_initialiser import start_vectors
from softcue.prompts.saved_prompt import expect_fits, open_source
from softcue.row_rules import RowRule

KEY = "prompt.sources"


class AttentionPrompt(SoftPrompt):
    """A target's prompt and an attention of M hidden units: P D + 2 D M + 2 D parameters.

    Raises:
        ConfigError: a source is for another model, or no prompt of embeddings at the first layer.
        RunError: there is no prompt, or a damaged one.
    """

    sources_SPD: Tensor

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        sources: Sequence[str],
        hidden_size: int,
    ) -> None:
        super().__init__()
        if not sources:
            raise ConfigError(f"{KEY} is []; give the folders of one or more complete runs.")
        width = spec.hidden_size
        start_PD = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        self.target_PD = nn.Parameter(start_PD)
        found = [_source(source, spec=spec, num_tokens=num_virtual_tokens) for source in sources]
        self.register_buffer("sources_SPD", torch.stack(found))
        self.down_DM = nn.Parameter(torch.randn(width, hidden_size, generator=generator) * width**-0.5)
        self.up_MD = nn.Parameter(torch.randn(hidden_size, width, generator=generator) * hidden_size**-0.5)
        self.scale_D, self.shift_D = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self) -> PromptBank:
        names = ("down_DM", "up_MD", "scale_D", "shift_D")
        rule = RowRule(kind="attention", tensors={name: getattr(self, name) for name in names})
        return PromptBank(embeddings_TPD=torch.cat([self.sources_SPD, self.target_PD[None]]), row_rule=rule)


def _source(path: str, *, spec: BackboneSpec, num_tokens: int) -> Tensor:
    """The embeddings [P, D] of an earlier run."""
    where = f"{KEY}: {path}"
    source = open_source(path, where=where)
    if source.shape.num_prompts != 1:
        raise ConfigError(
            f"{where} holds {source.shape.num_prompts} prompts; give runs of one prompt each, such as those "
            "of prompt=prompt_tuning."
        )
    expect_fits(source, spec, where)
    return start_vectors(source.bank(), num_tokens=num_tokens, width=spec.hidden_size, where=where)
