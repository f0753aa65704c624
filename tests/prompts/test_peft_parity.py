"""On the same weights and rows, logits, loss and prompt gradients equal PEFT's.

Under left padding PEFT is exact only on BLOOM; on Llama it drops position ids, so rows there have the
same length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from peft import (
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptEncoderReparameterizationType,
    PromptLearningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from torch import Generator, Tensor, nn

from softcue.backbone.base import Backbone
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import BackboneSpec, Batch, Choices, SoftPrompt
from softcue.evaluation.scoring import Scoring
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.p_tuning import PTuningLSTM, PTuningMLP
from softcue.prompts.prefix_tuning import PrefixTuning, ProjectedPrefixTuning, as_key_values
from softcue.prompts.prompt_tuning import PromptTuning
from softcue.training.objectives import LanguageModelLoss
from tests.tiny import batch_of, tiny_model, tiny_tokenizer

TOKENS, WIDTH = 4, 24
CHOICES: Choices = ((20, 21, 22), (24,))
RAGGED = [[5, 6, 7, 8], [5, 9], [5, 6, 10, 11, 12, 13, 14]]
EQUAL = [[5, 6, 7, 8], [5, 9, 7, 3], [6, 6, 10, 11]]
ROWS_AND_TARGETS = {"bloom": (RAGGED, [0, 1, 0]), "llama": (EQUAL, [0, 0, 0])}


@dataclass(frozen=True)
class Method:
    """PEFT's config, our prompt, and the names of the same parameters in both."""

    theirs: Callable[[], PromptLearningConfig]
    ours: Callable[[BackboneSpec], SoftPrompt]
    names: dict[str, str]


def common(spec: BackboneSpec) -> dict[str, Any]:
    return {
        "spec": spec,
        "num_virtual_tokens": TOKENS,
        "generator": Generator().manual_seed(0),
        "initialiser": RandomNormal(std=0.1),
    }


def their_config(kind: type[PromptLearningConfig], **settings: Any) -> Callable[[], PromptLearningConfig]:
    return lambda: kind(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=TOKENS, **settings)


LINEAR = {
    f"mlp_head.{layer}.{part}": f"mlp.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")
}
LSTM = {
    f"lstm_head.{part}_{kind}_l{layer}{way}": f"lstm.{part}_{kind}_l{layer}{way}"
    for part in ("weight", "bias")
    for kind in ("ih", "hh")
    for layer in (0, 1)
    for way in ("", "_reverse")
}
METHODS = {
    "prompt tuning": Method(
        their_config(PromptTuningConfig),
        lambda spec: PromptTuning(**common(spec)),
        {"embedding.weight": "embeddings_PD"},
    ),
    "P-tuning MLP": Method(
        their_config(PromptEncoderConfig, encoder_hidden_size=WIDTH),
        lambda spec: PTuningMLP(**common(spec), hidden_size=WIDTH),
        {"embedding.weight": "input_PD", **LINEAR},
    ),
    "P-tuning LSTM": Method(
        their_config(
            PromptEncoderConfig,
            encoder_hidden_size=WIDTH,
            encoder_reparameterization_type=PromptEncoderReparameterizationType.LSTM,
        ),
        lambda spec: PTuningLSTM(**common(spec), hidden_size=WIDTH, num_layers=2, dropout=0.0),
        {
            "embedding.weight": "input_PD",
            **LSTM,
            **{name: ours for name, ours in LINEAR.items() if ".4." not in name},
        },
    ),
    "prefix tuning": Method(
        their_config(PrefixTuningConfig),
        lambda spec: PrefixTuning(**common(spec), through_backbone=False),
        {},
    ),
    "projected prefix tuning": Method(
        their_config(PrefixTuningConfig, prefix_projection=True, encoder_hidden_size=WIDTH),
        lambda spec: ProjectedPrefixTuning(**common(spec), hidden_size=WIDTH),
        {
            "embedding.weight": "input_PE",
            **{f"transform.{at}.{part}": f"mlp.{at}.{part}" for at in (0, 2) for part in ("weight", "bias")},
        },
    ),
}


@dataclass
class Pair:
    """One model twice: wrapped by PEFT, and frozen with our prompt that has PEFT's weights."""

    theirs: PeftModel
    lm: Backbone
    prompt: SoftPrompt
    batch: Batch

    @property
    def encoder(self) -> nn.Module:
        return self.theirs.prompt_encoder["default"]

    def their_output(self) -> tuple[Tensor, Tensor]:
        """Logits that predict label tokens, row by row, and the loss."""
        width = max(len(row) for row in self.full_rows())
        ids = torch.tensor([[3] * (width - len(row)) + row for row in self.full_rows()])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in self.full_rows()])
        labels = torch.full_like(ids, -100)
        for at, label in enumerate(self.target_labels()):
            labels[at, -len(label) :] = torch.tensor(label)
        output = self.theirs(input_ids=ids, attention_mask=mask, labels=labels)
        predicting = [
            output.logits[at, -len(label) - 1 : -1] for at, label in enumerate(self.target_labels())
        ]
        return torch.cat(predicting), output.loss

    def our_output(self) -> tuple[Tensor, Tensor]:
        bank = self.prompt()
        states = self.lm.states(bank, self.batch, self.batch.target_choices)
        logits = self.lm.logits(states.hidden_MD)
        loss = LanguageModelLoss()(self.lm, bank, self.batch, Scoring(per_token=False))
        return logits, loss.mean

    def target_labels(self) -> list[tuple[int, ...]]:
        return [CHOICES[target] for target in self.batch.target_B.tolist()]

    def full_rows(self) -> list[list[int]]:
        rows = [row[TOKENS:] for row in _rows(self.batch)]
        return [row + list(label) for row, label in zip(rows, self.target_labels(), strict=True)]

    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """PEFT's gradient and ours of each parameter."""
        theirs, ours = dict(self.encoder.named_parameters()), dict(self.prompt.named_parameters())
        if isinstance(self.prompt, PrefixTuning):
            flat = theirs["embedding.weight"].grad
            assert flat is not None
            their_keys, their_values = as_key_values(flat, self.lm.spec)
            found = [(their_keys, self.prompt.keys_LHPK.grad), (their_values, self.prompt.values_LHPK.grad)]
            return [(their, our) for their, our in found if our is not None]
        names = METHODS_BY_TYPE[type(self.prompt)].names
        both = [(theirs[their].grad, ours[our].grad) for their, our in names.items()]
        return [(their, our) for their, our in both if their is not None and our is not None]


ENGINES = (StreamLM, PlainLM)
TYPES = (PromptTuning, PTuningMLP, PTuningLSTM, PrefixTuning, ProjectedPrefixTuning)
METHODS_BY_TYPE = dict(zip(TYPES, METHODS.values(), strict=True))


def _rows(batch: Batch) -> list[list[int]]:
    return [list(row) for row in batch.rows]


def make_pair(family: str, method: Method, engine: type[StreamLM | PlainLM]) -> Pair:
    torch.manual_seed(3)
    theirs = get_peft_model(tiny_model(family), method.theirs())
    lm: Backbone = engine(tiny_model(family), tiny_tokenizer(), name=family)
    prompt = method.ours(lm.spec)
    encoder = dict(theirs.prompt_encoder["default"].named_parameters())
    with torch.no_grad():
        if isinstance(prompt, PrefixTuning):
            keys_LHPK, values_LHPK = as_key_values(encoder["embedding.weight"], lm.spec)
            prompt.keys_LHPK.copy_(keys_LHPK)
            prompt.values_LHPK.copy_(values_LHPK)
        for their_name, our_name in method.names.items():
            dict(prompt.named_parameters())[our_name].copy_(encoder[their_name])
    rows, targets = ROWS_AND_TARGETS[family]
    virtual = [-1 - k for k in range(TOKENS)]
    batch = batch_of([virtual + row for row in rows], CHOICES, targets=targets)
    return Pair(theirs=theirs, lm=lm, prompt=prompt, batch=batch)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ROWS_AND_TARGETS)
@pytest.mark.parametrize("name", METHODS)
def test_logits_and_loss_equal_pefts(family: str, name: str, engine: type[StreamLM | PlainLM]) -> None:
    pair = make_pair(family, METHODS[name], engine)
    (their_logits, their_loss), (our_logits, our_loss) = pair.their_output(), pair.our_output()
    assert their_logits.shape == our_logits.shape
    torch.testing.assert_close(our_logits, their_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_loss, their_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", ROWS_AND_TARGETS)
@pytest.mark.parametrize("name", METHODS)
def test_prompt_gradients_equal_pefts(family: str, name: str, engine: type[StreamLM | PlainLM]) -> None:
    pair = make_pair(family, METHODS[name], engine)
    pair.their_output()[1].backward()
    pair.our_output()[1].backward()
    gradients = pair.gradients()
    assert len(gradients) == len(list(pair.prompt.parameters()))
    for theirs, ours in gradients:
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
