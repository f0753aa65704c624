"""Start from the prompt of the most similar task (SPoT, Vu et al. 2022, arXiv 2110.07904, section 3.3)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softcue.contracts import BackboneSpec
from softcue.errors import ConfigError
from softcue.prompts.initialisers import Initialiser
from softcue.prompts.library import entries, ranked
from softcue.prompts.saved_initialiser import start_vectors
from softcue.prompts.saved_prompt import expect_fits

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Nearest(Initialiser):
    """The library's prompts that are nearest to a prompt of the new task, trained for a few epochs.

    With `top` above 1 it is their average, weighted by their cosines ("weighted average" in the paper).
    """

    query: str
    library: Sequence[str]
    top: int

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        (query, *others) = entries(self.query, key="prompt.initialiser.query")
        if others:
            raise ConfigError(
                f"prompt.initialiser.query={self.query} holds {len(others) + 1} prompts; give one prompt of "
                "the new task."
            )
        key = "prompt.initialiser.library"
        library = [entry for path in self.library for entry in entries(path, key=key)]
        for entry in [query, *library]:
            expect_fits(entry.source, spec, f"prompt.initialiser: {entry.path}")
        best = ranked(query, library)[: self.top]
        if len(best) < self.top or (self.top > 1 and best[-1].cosine <= 0):
            alike = sum(match.cosine > 0 for match in best)
            raise ConfigError(
                f"prompt.initialiser.top is {self.top}, and {key} has {len(best)} prompts beside the query, "
                f"{alike} of them with a cosine above 0; set top to fewer, or give more prompts."
            )
        for match in best:
            log.info("starts from %s, cosine %.3f with %s", match.entry.path, match.cosine, self.query)
        starts = [
            start_vectors(
                match.entry.bank, num_tokens=num_tokens, width=width, where=f"{key}: {match.entry.path}"
            )
            for match in best
        ]
        weights_T = torch.tensor([match.cosine for match in best])
        return torch.einsum("t,tpw->pw", weights_T / weights_T.sum(), torch.stack(starts))
