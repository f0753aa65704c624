"""A prompt carried to another model, against the paper's two maps as numpy solves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import BackboneSpec, PromptBank
from softcue.errors import ConfigError
from softcue.formats.prompt_file import bank_to_bytes
from softcue.prompts.recycled_initialiser import Model, Recycled
from tests.tiny import HIDDEN, VOCABULARY, tiny_lm

TOKENS = 4


@pytest.fixture(scope="module")
def bloom() -> StreamLM:
    """The new model: the same words, other embeddings."""
    return tiny_lm("bloom")


@pytest.fixture
def source(tmp_path: Path) -> tuple[str, Tensor]:
    """A prompt of the llama: its folder and its vectors."""
    vectors_PD = torch.randn(TOKENS, HIDDEN, generator=Generator().manual_seed(0))
    return save(tmp_path, PromptBank(embeddings_TPD=vectors_PD[None]), "tiny_llama"), vectors_PD


def save(folder: Path, bank: PromptBank, backbone: str) -> str:
    (folder / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": backbone}))
    return str(folder)


def recycled(
    path: str, backbone: Callable[[], Model], spec: BackboneSpec, *, top: int | None = None
) -> Tensor:
    initialiser = Recycled(path=path, member=None, backbone=backbone, top=top)
    return initialiser.vectors(spec, num_tokens=TOKENS, width=spec.hidden_size, generator=Generator())


@pytest.mark.parametrize("top", [None, 40])
def test_it_is_the_papers_map_of_vocabularies_and_of_combinations(
    llama: StreamLM, bloom: StreamLM, source: tuple[str, Tensor], top: int | None
) -> None:
    path, prompt_PD = source
    count = top or VOCABULARY
    old_ND, new_ND = (lm.spec.embedding_VD[:count].double().numpy() for lm in (llama, bloom))
    # Lester et al. 2022, section 3: V_s Y = V_t, then P Y; and P = X V_s, then X V_t.
    by_vocabulary = prompt_PD.double().numpy() @ np.linalg.lstsq(old_ND, new_ND, rcond=None)[0]
    weights_NP = np.linalg.lstsq(old_ND.T, prompt_PD.double().numpy().T, rcond=None)[0]
    found = recycled(path, lambda: llama, bloom.spec, top=top).numpy()
    np.testing.assert_allclose(found, by_vocabulary, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, weights_NP.T @ new_ND, rtol=0, atol=1e-5)


def test_a_word_of_the_source_becomes_that_word_where_models_differ_by_a_rotation(
    llama: StreamLM, tmp_path: Path
) -> None:
    rotation_DD, _ = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN, generator=Generator().manual_seed(1)))
    turned = replace(llama.spec, name="turned", embed=lambda ids: llama.spec.embed(ids) @ rotation_DD)
    words_PD = llama.spec.embedding_VD[[5, 9, 30, 44]]
    path = save(tmp_path, PromptBank(embeddings_TPD=words_PD[None]), "tiny_llama")
    found_PD = recycled(path, lambda: llama, turned)
    torch.testing.assert_close(found_PD, turned.embedding_VD[[5, 9, 30, 44]], rtol=0, atol=1e-4)


def test_only_tokens_that_both_models_hold_tie_them(
    llama: StreamLM, bloom: StreamLM, source: tuple[str, Tensor]
) -> None:
    def halved(text: str) -> list[int]:
        """Every second word is two tokens of the new model."""
        ids = bloom.spec.tokenize(text)
        return ids if ids[0] % 2 else ids * 2

    with pytest.raises(ConfigError, match=r"25 tokens of tiny_llama are one token of tiny_bloom too, fewer"):
        recycled(source[0], lambda: llama, replace(bloom.spec, tokenize=halved))


def test_prompts_that_cannot_be_recycled_are_refused(
    llama: StreamLM, bloom: StreamLM, source: tuple[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"was trained for tiny_llama, and prompt\.initialiser\.backbone is tiny_bloom"
    ):
        recycled(source[0], lambda: bloom, bloom.spec)
    spec = llama.spec
    keys = torch.zeros(1, spec.num_layers, spec.num_kv_heads, TOKENS, spec.head_size)
    prefix = PromptBank(keys_TLHPK=keys, values_TLHPK=keys.clone())
    (tmp_path / "prefix").mkdir()
    with pytest.raises(ConfigError, match=r"Recycled maps embeddings to embeddings"):
        recycled(save(tmp_path / "prefix", prefix, "tiny_llama"), lambda: llama, bloom.spec)
