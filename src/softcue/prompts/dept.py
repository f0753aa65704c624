"""Decomposed prompt tuning (DePT, Shi & Lipani 2024, arXiv 2309.05173, section 2.2).

A short prompt of P vectors, and a low-rank product A B of offsets: the i-th word of every row has the i-th
row of A B added to its embedding. With as many numbers as a longer prompt has, rows are shorter to run.

What differs from the paper. It trains the two parts at learning rates of their own; here A B is multiplied
by `scale`, which under Adam is the ratio of the two rates. A is random at the start and B close to zero,
where the paper has zeros, so that both learn from the first step. Offsets are counted over the row's words,
those of the template too, and words behind the S-th have none; a label's tokens have none either, as in the
paper, whose labels are a decoder's.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.prompts.initialisers import Initialiser
from softcue.row_rules import RowRule

START_STD = 1e-3
"""Standard deviation of B at the start."""


class DecomposedPrompt(SoftPrompt):
    """P vectors, and A [S, r] and B [r, D] for the words' offsets: P D + r (S + D) parameters."""

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        initialiser: Initialiser,
        num_words: int,
        rank: int,
        scale: float,
    ) -> None:
        super().__init__()
        width = spec.hidden_size
        start_PD = initialiser.vectors(spec, num_tokens=num_virtual_tokens, width=width, generator=generator)
        self.vectors_PD = nn.Parameter(start_PD)
        self.left_SR = nn.Parameter(torch.randn(num_words, rank, generator=generator) * rank**-0.5)
        self.right_RD = nn.Parameter(START_STD * torch.randn(rank, width, generator=generator))
        self.scale = scale

    def forward(self) -> PromptBank:
        tensors = {"left_SR": self.left_SR, "right_RD": self.scale * self.right_RD}
        rule = RowRule(kind="offsets", tensors=tensors)
        return PromptBank(embeddings_TPD=self.vectors_PD[None], row_rule=rule)
