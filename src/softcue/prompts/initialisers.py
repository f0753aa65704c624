"""Where a soft prompt starts. It moves the score more than the choice of method does.

Lester et al. 2021 (section 3.1.1) compare random, sampled-vocabulary and class-label starts. A
vector off the embedding manifold, such as a draw from N(0, 1), is the worst of them.
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
    """Makes the vectors a prompt starts from."""

    @abstractmethod
    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        """One vector of `width` numbers for each virtual token, fp32: [P, width].

        Raises:
            ConfigError: this start is made of word embeddings, and `width` is another.
        """


@dataclass(frozen=True, kw_only=True)
class RandomNormal(Initialiser):
    """Draws from N(0, std²)."""

    std: float

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        return torch.randn(num_tokens, width, generator=generator) * self.std


@dataclass(frozen=True, kw_only=True)
class RandomUniform(Initialiser):
    """Draws from [-limit, limit]; Lester et al. take 0.5."""

    limit: float

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        return (torch.rand(num_tokens, width, generator=generator) * 2 - 1) * self.limit


@dataclass(frozen=True, kw_only=True)
class SampledVocabulary(Initialiser):
    """Embeddings of random words among the vocabulary's first `top`, or all of it with null.

    Ids of a byte-pair vocabulary grow as pieces get rarer; Lester et al. take the top 5,000.
    """

    top: int | None

    def vectors(self, spec: BackboneSpec, *, num_tokens: int, width: int, generator: Generator) -> Tensor:
        _expect_embeddings(self, spec, width)
        limit = spec.vocab_size if self.top is None else min(self.top, spec.vocab_size)
        ids_P = torch.randint(limit, (num_tokens,), generator=generator)
        return _embed(spec, ids_P.tolist())


@dataclass(frozen=True, kw_only=True)
class Text(Initialiser):
    """Embeddings of a text's tokens, repeated or cut to the prompt's length."""

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
    """One token a class, the mean of its label's embeddings; the rest is sampled vocabulary."""

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
