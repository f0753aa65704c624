"""softcue on the benchmark's rows, by the calls that a run makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import NO_CHOICE
from softcue.backbone.search import Ending, search
from softcue.contracts import Batch, Choices, Decoding, SoftPrompt
from softcue.evaluation.predictions import predict_batch
from softcue.evaluation.scoring import Scoring
from softcue.prompts.initialisers import RandomNormal, SampledVocabulary
from softcue.prompts.p_tuning import PTuningMLP
from softcue.prompts.prefix_tuning import PrefixTuning
from softcue.prompts.prompt_tuning import PromptTuning
from softcue.training.objectives import LanguageModelLoss

SUM = Scoring(per_token=False)


def make_prompt(lm: Backbone, method: str, *, num_virtual_tokens: int) -> SoftPrompt:
    """A method in its default setting."""
    generator = Generator().manual_seed(0)
    vocabulary = SampledVocabulary(top=5000)
    common = {"spec": lm.spec, "num_virtual_tokens": num_virtual_tokens, "generator": generator}
    if method == "prompt_tuning":
        return PromptTuning(**common, initialiser=vocabulary)  # type: ignore[arg-type]
    if method == "prefix_tuning":
        return PrefixTuning(**common, initialiser=vocabulary, through_backbone=True)  # type: ignore[arg-type]
    return PTuningMLP(**common, initialiser=RandomNormal(std=0.1), hidden_size=128)  # type: ignore[arg-type]


class Ours:
    """A soft prompt of softcue in training or evaluation, on rows of token ids."""

    def __init__(
        self,
        lm: Backbone,
        method: str,
        *,
        num_virtual_tokens: int,
        place: Literal["prefix", "suffix"] = "prefix",
    ) -> None:
        self.lm, self.place = lm, place
        self.virtual = [-1 - k for k in range(num_virtual_tokens)]
        self.prompt = make_prompt(lm, method, num_virtual_tokens=num_virtual_tokens).to(lm.device)
        self.optimizer = torch.optim.AdamW(self.prompt.parameters(), lr=1e-3)

    def train_step(self, rows: Sequence[list[int]], labels: Sequence[tuple[int, ...]]) -> float:
        """Loss on the label tokens, backward, update."""
        batch = self._batch(rows, [(label,) for label in labels])
        self.optimizer.zero_grad()
        loss = LanguageModelLoss()(self.lm, self.prompt(), batch, SUM).mean
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def score(self, rows: Sequence[list[int]], choices: Choices) -> None:
        """Class probabilities of every row."""
        predict_batch(self.lm, self.prompt(), self._batch(rows, [choices] * len(rows)), SUM)

    @torch.no_grad()
    def generate(self, rows: Sequence[list[int]], *, num_tokens: int, num_beams: int) -> list[list[int]]:
        """So many tokens after each row, none of which ends it."""
        decoding = Decoding(
            max_new_tokens=num_tokens,
            num_beams=num_beams,
            length_penalty=1.0,
            early_stopping=False,
            temperature=0.0,
            top_k=None,
            top_p=None,
            seed=0,
            stop=(),
        )
        batch = self._batch(rows, [NO_CHOICE] * len(rows))
        begun = self.lm.continuation(self.prompt(), batch, max_new_tokens=num_tokens)
        never = Ending(tokens=frozenset(), stop=(), decode=self.lm.decode)
        return search(begun, decoding, rows=range(len(rows)), ending=never)

    def num_tokens(self, rows: Sequence[list[int]], labels: Sequence[tuple[int, ...]]) -> int:
        """Tokens that a training step has to run: shared ones once, the last of each label never."""
        shared = len(self.virtual) + _num_shared(rows)
        return (
            shared
            + sum(len(row) + len(label) - 1 for row, label in zip(rows, labels, strict=True))
            - len(rows) * _num_shared(rows)
        )

    def _batch(self, rows: Sequence[list[int]], choices: Sequence[Choices]) -> Batch:
        placed = [self.virtual + row if self.place == "prefix" else row + self.virtual for row in rows]
        return Batch(
            rows=tuple(tuple(row) for row in placed),
            choices=tuple(choices),
            target_B=torch.zeros(len(rows), dtype=torch.long),
            prompt_B=torch.zeros(len(rows), dtype=torch.long),
            row_B=torch.arange(len(rows)),
        ).to(self.lm.device)


def _num_shared(rows: Sequence[list[int]]) -> int:
    return next(
        (at for at, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1),
        min(map(len, rows)),
    )
