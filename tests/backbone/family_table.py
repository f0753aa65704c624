"""Both engines compared with the oracle, family by family; run as a script, it writes the page in docs/."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import __version__ as transformers_version
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from softcue.backbone import verify
from softcue.backbone.base import Backbone
from softcue.backbone.engine import make_backbone
from softcue.backbone.families import VERIFIED
from softcue.contracts import Choices, PromptBank
from softcue.errors import BackboneError
from tests.backbone import encoder_decoder_table
from tests.backbone.zoo import VARIANTS, Variant, oracle_scores, tiny
from tests.tiny import batch_of, score_classes, tiny_tokenizer

LABELS: Choices = ((20, 21, 22), (20, 21), (24,), (20, 25))
"""Labels that share tokens; one is the beginning of another."""
TEXTS = [[30, 31, 32, 33], [30, 31, 40, 41, 42, 43, 44], [50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 30, 31]]
LONG_TEXT = [30 + at % 20 for at in range(70)]
PROMPTS = [0, 1, 1]
TYPED = [7, 8, 9]
PADDED_WIDTH = 130
TOLERANCE = 1e-5
"""Largest difference allowed in fp32, relative to the largest value."""

PAGE = Path(__file__).parents[2] / "docs" / "supported_models.md"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A family's engine, and its largest differences from the oracle, relative to the largest value."""

    name: str
    engine: str
    scores: dict[str, float]
    gradients: dict[str, float]
    prefix_refusal: str | None

    @property
    def largest(self) -> tuple[float, float]:
        """The largest difference of all scores, and of all gradients."""
        return max(self.scores.values()), max(self.gradients.values())

    def largest_of(self, place: str) -> float:
        """The largest difference of scores and gradients with the prompt in this place."""
        both = [*self.scores.items(), *self.gradients.items()]
        return max(difference for name, difference in both if name.startswith(place))


class _Comparison:
    """A family's model on its engine, and another with the same weights for the oracle."""

    def __init__(self, variant: Variant, *, engine: str) -> None:
        self.oracle = tiny(variant.family, **variant.settings)
        model = tiny(variant.family, **variant.settings)
        self.lm: Backbone = make_backbone(model, tiny_tokenizer(), name=variant.family, engine=engine)
        self.scores: dict[str, float] = {}
        self.gradients: dict[str, float] = {}

    def embeddings(self, name: str, rows: Sequence[Sequence[int]], *, width: int = 0, times: int = 1) -> None:
        """Compare prompts of embeddings: scores of all labels, and gradients of two."""
        generator = torch.Generator().manual_seed(1)
        shape = 2, 3, self.lm.spec.hidden_size
        leaf_TPD = (torch.randn(shape, generator=generator) * 0.5).requires_grad_()
        expected = oracle_scores(self.oracle, rows, LABELS, embeddings_TPD=leaf_TPD, prompts=PROMPTS)
        batch = batch_of(rows, LABELS, prompts=PROMPTS, width=width)
        for _ in range(times):
            ours = score_classes(self.lm, PromptBank(embeddings_TPD=leaf_TPD), batch).log_likelihood_BC
        self._note(name, ours, expected, [leaf_TPD])

    def words(self) -> None:
        """Compare typed text, and a prompt of the embeddings of words."""
        typed = oracle_scores(self.oracle, TEXTS, LABELS)
        ours = score_classes(self.lm, PromptBank(), batch_of(TEXTS, LABELS)).log_likelihood_BC
        self._note("text alone", ours, typed, [])
        soft = PromptBank(embeddings_TPD=self.lm.spec.embed(torch.tensor(TYPED)).float()[None])
        expected = oracle_scores(self.oracle, [TYPED + text for text in TEXTS], LABELS)
        ours = score_classes(self.lm, soft, batch_of(in_front(), LABELS)).log_likelihood_BC
        self._note("words as a prompt", ours, expected, [])

    def prefix(self, *, width: int = 0) -> None:
        """Compare keys and values of words with those words typed, and gradients with the model's cache."""
        pair = self.lm.spec.key_values(self.lm.spec.embed(torch.tensor(TYPED)).float())
        keys, values = (one[None].requires_grad_() for one in pair)
        batch = batch_of(in_front(), LABELS, width=width)
        bank = PromptBank(keys_TLHPK=keys, values_TLHPK=values)
        ours = score_classes(self.lm, bank, batch).log_likelihood_BC
        name = f"keys and values{f', padded to {width}' if width else ''}"
        self._note(name, ours, oracle_scores(self.oracle, [TYPED + text for text in TEXTS], LABELS), [])
        cached = oracle_scores(self.oracle, in_front(), LABELS, prefix=(keys[0], values[0]))
        self._note(name, ours, cached, [keys, values])

    def two_prefixes(self) -> None:
        """Keys and values of six words and of one in a batch: the bank is wider than the shorter."""
        words = [[*TYPED, *TYPED], TYPED[:1]]
        pairs = [self.lm.spec.key_values(self.lm.spec.embed(torch.tensor(of)).float()) for of in words]
        both = [(keys[None].requires_grad_(), values[None].requires_grad_()) for keys, values in pairs]
        bank = PromptBank.concat([PromptBank(keys_TLHPK=keys, values_TLHPK=values) for keys, values in both])
        virtual = [[-1 - k for k in range(len(of))] for of in words]
        rows = [virtual[of] + text for of, text in zip(PROMPTS, TEXTS, strict=True)]
        ours = score_classes(self.lm, bank, batch_of(rows, LABELS, prompts=PROMPTS)).log_likelihood_BC
        alone = [
            oracle_scores(self.oracle, [row], LABELS, prefix=(both[of][0][0], both[of][1][0]))
            for of, row in zip(PROMPTS, rows, strict=True)
        ]
        leaves = [leaf for pair in both for leaf in pair]
        self._note("keys and values of two lengths", ours, torch.cat(alone), leaves)

    def _note(self, name: str, ours: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
        self.scores[name] = max(_difference(ours, expected), self.scores.get(name, 0.0))
        if leaves:
            both = [torch.autograd.grad(of[:, 0].sum() + of[:, 3].sum(), leaves) for of in (ours, expected)]
            self.gradients[name] = max(_difference(*pair) for pair in zip(*both, strict=True))


def measure(name: str, *, engine: str = "auto") -> Measured:
    """Compare a family, or a variant of one, with prompts in every place.

    Raises:
        BackboneError: no engine runs the model.
    """
    found = _Comparison(VARIANTS.get(name, Variant(family=name)), engine=engine)
    found.words()
    found.embeddings("in front", in_front())
    found.embeddings(f"in front, padded to {PADDED_WIDTH}", in_front(), width=PADDED_WIDTH)
    if found.lm.spec.max_positions > len(LONG_TEXT) + 10:
        long = [[-1, -2, -3, *text] for text in (*TEXTS[:2], LONG_TEXT)]
        found.embeddings("beside a long row", long)
    after = [[*text, -1, -2, -3] for text in TEXTS]
    found.lm.limit_cache(0.0)
    found.embeddings("after", after)
    found.lm.limit_cache(1.0)
    found.embeddings("after, contexts kept", after, times=2)
    found.embeddings("within", [[-1, *text[:2], -2, -3, *text[2:]] for text in TEXTS])
    if found.lm.spec.prefix_refusal is None:
        found.prefix()
        found.prefix(width=PADDED_WIDTH)
        found.two_prefixes()
    return Measured(
        name=name,
        engine=found.lm.engine,
        scores=found.scores,
        gradients=found.gradients,
        prefix_refusal=found.lm.spec.prefix_refusal,
    )


def in_front() -> list[list[int]]:
    """The texts after three virtual tokens."""
    return [[-1, -2, -3, *text] for text in TEXTS]


def _difference(ours: Tensor, expected: Tensor) -> float:
    ours, expected = ours.detach(), expected.detach()
    return float((ours - expected).abs().max() / expected.abs().max())


# Models that AutoModelForCausalLM loads and that also take images or sound.
MULTIMODAL = frozenset(
    {"blt", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2", "llama4"}
    | {"mllama", "moss_transcribe_diarize", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp"}
    | {"musicgen", "musicgen_melody", "gemma4_assistant", "gemma4_unified_assistant"}
)

TITLE = """# Supported models

softcue runs a causal language model on one of two engines, and an [encoder-decoder](#encoder-decoders) on its
own modules. `backbone.engine=auto` chooses, and the log names the engine and the reason.

- **stream** runs each shared token once and no padding. It runs the families that the tests verify
  ({verified}), and every other model if it gives the results of the model's own forward when the model is
  loaded, in float64 and to {tolerance:.0e} of the largest value. Models of {large:,} parameters and more, and
  those that do not run in float64, are compared in fp32, where gradients may differ by {rounded:.0e}.
- **plain** is the model's own forward on left-padded rows. It runs every other causal language model of
  transformers, quantised ones included.

Of the {measured} families and variants in the table, {stream} run on stream and {plain} on plain; {refused}
families are refused.

The table is measured with tiny random models of transformers {version} in fp32. The reference runs one row
and one label at a time, unpadded, through the model's own eager forward. The columns "scores" and
"gradients" are the largest differences from it, relative to the largest value, over prompts before the text
(also padded to {width} positions), after it (with contexts kept and recomputed) and within it, keys and
values in front, a prompt of the embeddings of words, and labels that are the beginning of others. The last
two columns are the larger of both for keys and values, and for prompts after the text.
`python -m tests.backbone.family_table` writes this page, and `tests/backbone/test_families.py` checks it.

| family | engine | scores | gradients | prefix tuning | suffix |
|---|---|---|---|---|---|
"""


def families() -> list[str]:
    """All families of text decoders that transformers loads as causal language models, and the variants."""
    return sorted({*VARIANTS, *MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - MULTIMODAL)


def page() -> str:
    """The page: a line for each family, then the refused ones, then those that are not tried."""
    rows: list[str] = []
    engines: list[str] = []
    refused: list[str] = []
    untried: list[str] = []
    for name in families():
        try:
            found = measure(name)
        except BackboneError as error:
            # A model that cannot run a row at all has a config that the tiny sizes do not fit.
            if "cannot run a row" in str(error):
                untried.append(f"`{name}`")
            else:
                refused.append(f"- `{name}`: {error}")
        except Exception as error:  # noqa: BLE001 - a config that the tiny sizes do not fit
            untried.append(f"`{name}`")
            logging.getLogger(__name__).warning("%s: %s: %s", name, type(error).__name__, error)
        else:
            scores, gradients = found.largest
            prefix = f"no: {found.prefix_refusal}"
            if found.prefix_refusal is None:
                prefix = f"{found.largest_of('keys and values'):.0e}"
            suffix = f"{found.largest_of('after'):.0e}"
            engines.append(found.engine)
            rows.append(f"| {name} | {found.engine} | {scores:.0e} | {gradients:.0e} | {prefix} | {suffix} |")
    return (
        TITLE.format(
            version=transformers_version,
            width=PADDED_WIDTH,
            verified=", ".join(f"`{name}`" for name in VERIFIED),
            tolerance=verify.TOLERANCE,
            large=verify.LARGE,
            rounded=verify.FP32_GRADIENT_TOLERANCE,
            measured=len(rows),
            stream=engines.count("stream"),
            plain=engines.count("plain"),
            refused=len(refused),
        )
        + "\n".join(rows)
        + "\n\n## Refused\n\n"
        + "\n".join(refused)
        + "\n\n## Not tried\n\nThere is no tiny model of these families: "
        + ", ".join(untried)
        + ". Models that also take images or sound are not in the table either. All of them are compared "
        "with their own forward when they are loaded.\n"
    )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page() + encoder_decoder_table.section())
