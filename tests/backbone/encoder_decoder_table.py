"""Encoder-decoders compared with the oracle, family by family; as a script, it fills its part of the page."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from softcue.contracts import Choices, PromptBank
from softcue.errors import BackboneError
from tests.backbone.encoder_decoders import FAMILIES, on_engine, oracle, tiny_encoder_decoder
from tests.tiny import batch_of, score_classes

PAGE = Path(__file__).parents[2] / "docs" / "supported_models.md"
HEADING = "\n## Encoder-decoders\n"
INTRODUCTION = """
[Encoder-decoders](encoder_decoders.md) run through their own modules, the encoder once a row. Tiny random
models in fp32, compared as above: virtual tokens in front of, behind and within the encoder's row, and before
the decoder's start as well. `python -m tests.backbone.encoder_decoder_table` writes this part.

| family | scores | gradients | keys and values |
|---|---|---|---|
"""
LABELS: Choices = ((20, 21, 22), (20, 21), (24,), (20, 25))
TEXTS = [[30, 31, 32, 33], [30, 31, 40, 41, 42, 43, 44], [50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 30, 31]]
PROMPTS = [0, 1, 1]


def line_of(family: str) -> str:
    """The table's line of a family; BackboneError if it is refused."""
    lm = on_engine(family, dtype=torch.float32)
    model = tiny_encoder_decoder(family, dtype=torch.float32)
    scores, gradients = [], []
    layouts = (
        [[-1, -2, -3, *text] for text in TEXTS],
        [[*text, -1, -2, -3] for text in TEXTS],
        [[-1, *text[:2], -2, -3, *text[2:]] for text in TEXTS],
    )
    for rows in layouts:
        for submodules in (1, 2):
            leaves = [_vectors(2, 3, lm.spec.hidden_size, seed=seed) for seed in range(submodules)]
            bank = PromptBank(
                embeddings_TPD=leaves[0], decoder_embeddings_TPD=leaves[1] if submodules == 2 else None
            )
            ours = score_classes(lm, bank, batch_of(rows, LABELS, prompts=PROMPTS)).log_likelihood_BC
            expected = oracle(model, bank, rows, LABELS, PROMPTS)
            scores.append(_difference(ours, expected))
            both = [torch.autograd.grad(of[:, 0].sum() + of[:, 3].sum(), leaves) for of in (ours, expected)]
            gradients += [_difference(*pair) for pair in zip(*both, strict=True)]
    prefix = "yes" if lm.spec.prefix_refusal is None else f"no: {lm.spec.prefix_refusal}"
    return f"| {family} | {max(scores):.0e} | {max(gradients):.0e} | {prefix} |"


def section() -> str:
    """The page's part on encoder-decoders."""
    lines, refused = [], []
    for family in FAMILIES:
        try:
            lines.append(line_of(family))
        except BackboneError as error:
            refused.append(f"- `{family}`: {error}")
    untried = sorted(set(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES) - set(FAMILIES))
    return (
        HEADING
        + INTRODUCTION
        + "\n".join(lines)
        + "\n\nRefused:\n\n"
        + "\n".join(refused)
        + "\n\nNot tried with tiny models: "
        + ", ".join(f"`{name}`" for name in untried)
        + ". These, too, are compared with their own forward when they are loaded.\n"
    )


def _vectors(*shape: int, seed: int) -> Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.5).requires_grad_()


def _difference(ours: Any, expected: Any) -> float:
    ours, expected = ours.detach(), expected.detach()
    return float((ours - expected).abs().max() / expected.abs().max())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    page = PAGE.read_text()
    PAGE.write_text(re.sub(f"{re.escape(HEADING)}.*?(?=\n## |$)", "", page, flags=re.DOTALL) + section())
