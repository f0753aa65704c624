"""P-tuning (Liu et al. 2021, arXiv 2103.10385, section 3.2): an encoder computes the embeddings.

A trainable embedding for each virtual token passes through an LSTM or an MLP. After training only
the encoder's output is kept.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.seeding import seeded


class PTuning(SoftPrompt):
    """Trainable embeddings, in the order of the row's virtual tokens, through a prompt encoder."""

    def __init__(
        self, *, spec: BackboneSpec, num_virtual_tokens: int, generator: Generator, initialiser: Initialiser
    ) -> None:
        super().__init__()
        start_PD = initialiser.vectors(
            spec, num_tokens=num_virtual_tokens, width=spec.hidden_size, generator=generator
        )
        self.input_PD = nn.Parameter(start_PD)

    @abstractmethod
    def encode(self, input_PD: Tensor) -> Tensor:
        """The embeddings that the frozen model reads: [P, D]."""

    def forward(self) -> PromptBank:
        return PromptBank(embeddings_TPD=self.encode(self.input_PD)[None])


class PTuningMLP(PTuning):
    """Embeddings and an MLP of width m: P D + D (2 m + 1) + m (m + 2) parameters.

    The MLP is three linear layers with ReLU between them.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        hidden_size: int,
    ) -> None:
        super().__init__(
            spec=spec, num_virtual_tokens=num_virtual_tokens, generator=generator, initialiser=initialiser
        )
        with seeded(generator):
            self.mlp = nn.Sequential(
                nn.Linear(spec.hidden_size, hidden_size),
                nn.ReLU(),
                nn.Linear(hidden_size, hidden_size),
                nn.ReLU(),
                nn.Linear(hidden_size, spec.hidden_size),
            )

    def encode(self, input_PD: Tensor) -> Tensor:
        embeddings_PD: Tensor = self.mlp(input_PD)
        return embeddings_PD


class PTuningLSTM(PTuning):
    """Embeddings and two layers of LSTM of width m: P D + D (10 m + 1) + m (36 m + 34) parameters.

    A bidirectional LSTM over the prompt, then two linear layers with ReLU between them.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__(
            spec=spec, num_virtual_tokens=num_virtual_tokens, generator=generator, initialiser=initialiser
        )
        with seeded(generator):
            self.lstm = nn.LSTM(
                input_size=spec.hidden_size,
                hidden_size=hidden_size,
                num_layers=num_layers,
                dropout=dropout,
                bidirectional=True,
            )
            self.mlp = nn.Sequential(
                nn.Linear(2 * hidden_size, 2 * hidden_size),
                nn.ReLU(),
                nn.Linear(2 * hidden_size, spec.hidden_size),
            )

    def encode(self, input_PD: Tensor) -> Tensor:
        states_PH, _ = self.lstm(input_PD)
        embeddings_PD: Tensor = self.mlp(states_PH)
        return embeddings_PD
