"""bitsandbytes' layers on the plain engine, compared with the same layers on one row and label at a time.

Skipped without bitsandbytes: importing it takes seconds in every process that imports PEFT.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from softcue.backbone.base import Backbone
from softcue.backbone.load import from_path
from softcue.contracts import PromptBank
from tests.backbone.family_table import LABELS, PROMPTS, TOLERANCE, TYPED, in_front
from tests.backbone.zoo import oracle_scores, tiny
from tests.tiny import batch_of, score_classes, tiny_tokenizer

pytest.importorskip("bitsandbytes")


def quantised(folder: Path, family: str, bits: int) -> Backbone:
    """A model from a folder in which its weights are saved in 4 or 8 bits."""
    tiny(family).save_pretrained(folder / "full")
    settings = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    model = AutoModelForCausalLM.from_pretrained(
        folder / "full", dtype=torch.float32, quantization_config=settings
    )
    model.save_pretrained(folder / "quantised")
    tiny_tokenizer().save_pretrained(folder / "quantised")
    return from_path(
        path=str(folder / "quantised"),
        name="tiny",
        dtype="float32",
        engine="auto",
        gradient_checkpointing=False,
        cache_dir=str(folder / "cache"),
    )


def difference(ours: Tensor, own: Tensor) -> float:
    ours, own = ours.detach(), own.detach()
    return float((ours - own).abs().max() / own.abs().max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_model_quantised_by_bitsandbytes_gives_the_results_of_its_own_forward(
    tmp_path: Path, family: str, bits: int
) -> None:
    lm = quantised(tmp_path, family, bits)
    assert lm.engine == "plain"
    assert lm.choice.endswith("runs on the plain engine: its weights are quantised")
    assert {"Linear4bit" if bits == 4 else "Linear8bitLt"} <= {
        type(one).__name__ for one in lm.model.modules()
    }
    generator = torch.Generator().manual_seed(1)
    vectors_TPD = torch.randn(2, 3, lm.spec.hidden_size, generator=generator).mul(0.5).requires_grad_()
    keys, values = (one.requires_grad_() for one in lm.spec.key_values(lm.spec.embed(torch.tensor(TYPED))))
    soft = PromptBank(embeddings_TPD=vectors_TPD)
    prefix = PromptBank(keys_TLHPK=keys[None], values_TLHPK=values[None])
    batch = batch_of(in_front(), LABELS, prompts=PROMPTS)
    expected = (
        oracle_scores(lm.model, in_front(), LABELS, embeddings_TPD=vectors_TPD, prompts=PROMPTS),
        oracle_scores(lm.model, in_front(), LABELS, prefix=(keys, values)),
    )
    for bank, leaf, own_BC in zip((soft, prefix), (vectors_TPD, keys), expected, strict=True):
        ours_BC = score_classes(lm, bank, batch).log_likelihood_BC
        assert difference(ours_BC, own_BC) < TOLERANCE
        gradients = [torch.autograd.grad(of[:, 0].sum(), leaf)[0] for of in (ours_BC, own_BC)]
        assert difference(*gradients) < TOLERANCE
