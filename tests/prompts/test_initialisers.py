"""Initial values of prompts, compared with the embedding table."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from softcue.contracts import BackboneSpec
from softcue.errors import ConfigError
from softcue.prompts.initialisers import (
    ClassLabels,
    Initialiser,
    RandomNormal,
    RandomUniform,
    SampledVocabulary,
    Text,
)
from softcue.prompts.prefix_tuning import PrefixTuning
from tests.tiny import HIDDEN, tiny_lm

SPEC = tiny_lm("llama").spec


def vectors(initialiser: Initialiser, *, num_tokens: int, spec: BackboneSpec = SPEC) -> Tensor:
    generator = Generator().manual_seed(0)
    return initialiser.vectors(spec, num_tokens=num_tokens, width=spec.hidden_size, generator=generator)


def test_a_text_is_repeated_or_truncated_to_the_prompts_length() -> None:
    table = SPEC.embedding_VD
    assert torch.equal(vectors(Text(text="w7 w8"), num_tokens=5), table[[7, 8, 7, 8, 7]])
    assert torch.equal(vectors(Text(text="w7 w8 w9"), num_tokens=2), table[[7, 8]])


def test_a_label_of_several_tokens_starts_from_their_mean_and_the_rest_is_vocabulary() -> None:
    start = vectors(ClassLabels(verbalizer={"a": "w7", "b": "w8 w9"}, top=None), num_tokens=4)
    assert torch.equal(start[0], SPEC.embedding_VD[7])
    assert torch.equal(start[1], SPEC.embedding_VD[[8, 9]].mean(dim=0))
    assert all((SPEC.embedding_VD == row).all(dim=1).any() for row in start[2:])


def test_more_classes_than_tokens_keeps_the_first_classes() -> None:
    start = vectors(ClassLabels(verbalizer={"a": "w7", "b": "w8", "c": "w9"}, top=None), num_tokens=2)
    assert torch.equal(start, SPEC.embedding_VD[[7, 8]])


def test_sampled_vocabulary_stays_within_the_top() -> None:
    start = vectors(SampledVocabulary(top=5), num_tokens=100)
    words = {int((SPEC.embedding_VD == row).all(dim=1).nonzero()) for row in start}
    assert words == set(range(5))


def test_random_initialisers_have_the_given_spread() -> None:
    assert vectors(RandomNormal(std=0.1), num_tokens=2000).std() == pytest.approx(0.1, rel=0.02)
    uniform = vectors(RandomUniform(limit=0.5), num_tokens=2000)
    assert uniform.abs().max() <= 0.5
    assert uniform.std() == pytest.approx(0.5 / 3**0.5, rel=0.02)


def test_word_embeddings_cannot_initialise_keys_and_values() -> None:
    with pytest.raises(ConfigError, match=rf"word embeddings of {HIDDEN} numbers.*random_normal"):
        PrefixTuning(
            spec=SPEC,
            num_virtual_tokens=4,
            generator=Generator().manual_seed(0),
            initialiser=Text(text="w7"),
            through_backbone=False,
        )


def test_an_empty_part_of_the_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prompt\.initialiser\.top is 0; set it to 1 or more"):
        vectors(SampledVocabulary(top=0), num_tokens=3)


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no tokens"):
        vectors(Text(text=""), num_tokens=3)
