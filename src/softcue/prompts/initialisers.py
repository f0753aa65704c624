"""Initial values of soft prompts.

Lester et al. 2021 (arXiv 2104.08691, section 3.1.1) compare random, sampled-vocabulary and class-label
initialisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from softcue.contracts import BackboneSpec
from softcue.errors import ConfigError


class Initialiser(ABC):
    """The initial values of a prompt."""

    @abstractmethod
    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        """One vector of `width` numbers for each virtual token, fp32: [P, width].

        Raises:
            ConfigError: the initialiser gives word embeddings, and `width` is not their size.
        """


@dataclass(frozen=True, kw_only=True)
class RandomNormal(Initialiser):
    """Draws from N(0, std²)."""

    std: float

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        return torch.randn(num_tokens, width, generator=generator) * self.std


@dataclass(frozen=True, kw_only=True)
class RandomUniform(Initialiser):
    """Uniform draws from [-limit, limit]; 0.5 in Lester et al."""

    limit: float

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        return (torch.rand(num_tokens, width, generator=generator) * 2 - 1) * self.limit


@dataclass(frozen=True, kw_only=True)
class SampledVocabulary(Initialiser):
    """Embeddings of random tokens among the first `top` of the vocabulary, or of all of it if None.

    Ids of a byte-pair vocabulary are in order of frequency; Lester et al. use the 5,000 most frequent.
    """

    top: int | None

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        _expect_embeddings(self, spec, width)
        limit = spec.vocab_size if self.top is None else min(self.top, spec.vocab_size)
        if limit < 1:
            raise ConfigError(
                f"prompt.initialiser.top is {self.top}; set it to 1 or more, or to null for all."
            )
        ids_P = torch.randint(limit, (num_tokens,), generator=generator)
        return _embed(spec, ids_P.tolist())


@dataclass(frozen=True, kw_only=True)
class Text(Initialiser):
    """Embeddings of a text's tokens, repeated or truncated to the prompt's length."""

    text: str

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        _expect_embeddings(self, spec, width)
        ids = spec.tokenize(self.text)
        if not ids:
            raise ConfigError(
                f"prompt.initialiser.text {self.text!r} has no tokens; give a few words of the task."
            )
        return _embed(spec, [ids[index % len(ids)] for index in range(num_tokens)])


@dataclass(frozen=True, kw_only=True)
class ClassLabels(Initialiser):
    """One virtual token per class, the mean of its label's embeddings; the others are sampled vocabulary."""

    verbalizer: Mapping[str, str]
    top: int | None

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        _expect_embeddings(self, spec, width)
        means = [_embed(spec, spec.tokenize(f" {label}")).mean(dim=0) for label in self.verbalizer.values()]
        rest = max(0, num_tokens - len(means))
        sampled_RD = SampledVocabulary(top=self.top).vectors(
            spec, num_tokens=rest, width=width, generator=generator
        )
        return torch.cat([torch.stack(means)[:num_tokens], sampled_RD])


def _embed(spec: BackboneSpec, ids: list[int]) -> Tensor:
    return spec.embed(torch.tensor(ids, dtype=torch.long)).float().cpu()


def _expect_embeddings(initialiser: Initialiser, spec: BackboneSpec, width: int) -> None:
    if width != spec.hidden_size:
        raise ConfigError(
            f"prompt.initialiser {type(initialiser).__name__} gives word embeddings of {spec.hidden_size} "
            f"numbers, but this prompt starts from {width}; choose prompt/initialiser=random_normal."
        )
