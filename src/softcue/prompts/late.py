"""Late prompts (LPT, Liu et al. 2022, arXiv 2210.11292, section 4.1): the prompt enters at a middle layer.

Below that layer nothing depends on the prompt, so a run computes it once; a step is the upper layers' alone.

What differs from the paper. This is its variant without a prompt generator ("LPT w/o PG"), which makes the
prompt of the row's states there. The paper's models normalise what each layer gives, so that states are as
large as embeddings; in a decoder states grow from layer to layer, so here the prompt starts as the states
that the frozen model makes of the initialiser's embeddings. Trained are these divided by how much larger they
are, so that a learning rate means at every layer what it does in prompt tuning. At its first step it predicts
what prompt tuning would if no word below saw the prompt. The layout may place it anywhere in the row.
"""

from __future__ import annotations

from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser

FIRST_LAYER = "prompt.method.first_layer"


class LatePrompt(SoftPrompt):
    """P vectors of the model's hidden size, which enter at a middle layer: P D parameters.

    Raises:
        ConfigError: the model has no such layer, or takes no prompt there.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        first_layer: int | None,
    ) -> None:
        super().__init__()
        self.first_layer = spec.entry(first_layer, name=FIRST_LAYER)
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        states_PD = spec.states(start_PD, self.first_layer).cpu()
        # Medians: the states of a row's first token are often hundreds of times as large as the others.
        self.scale = float(states_PD.abs().median() / start_PD.abs().median())
        self.vectors_PD = nn.Parameter(states_PD / self.scale)

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=self.vectors_PD[None] * self.scale, first_layer=self.first_layer)
