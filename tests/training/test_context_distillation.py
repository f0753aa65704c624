"""Context distillation against the divergence written out over the model's own forward."""

from __future__ import annotations

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedModel

from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.training.context_distillation import ContextDistillation
from tests.tiny import HIDDEN, batch_of, plain_hidden, score_targets, tiny_lm, tiny_model, tiny_tokenizer

CHOICES = ((20, 21), (22,))
NODES = ((), (20,))
"""Where a token of some label is predicted: behind the row, and behind the first label's first token."""
ROWS = [[-1, -2, 5, 6], [-1, -2, 7, 9, 8]]
TEXT, TEXT_IDS = "w7 w8 w9", [7, 8, 9]
SUM = Scoring(per_token=False)
BATCH = batch_of(ROWS, CHOICES, targets=[0, 1])


@pytest.fixture(scope="module")
def lm() -> StreamLM:
    return tiny_lm("llama")


def prompt() -> PromptBank:
    generator = torch.Generator().manual_seed(0)
    return PromptBank(embeddings_TPD=torch.randn(1, 2, HIDDEN, generator=generator))


def distribution(model: PreTrainedModel, bank: PromptBank, row: list[int], node: tuple[int, ...]) -> Tensor:
    """What follows a row and the beginning of a label, by the model's own forward."""
    head = model.get_output_embeddings()
    # The label's last token, here 0, is predicted and never read.
    logits_V: Tensor = head(plain_hidden(model, bank, row, [*node, 0], 0)[-1:])[0]
    return logits_V.softmax(-1)


def test_what_starts_every_row_comes_before_the_text(lm: StreamLM, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "w1"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="w1 $A", special_tokens=[("w1", 1)]
    )
    monkeypatch.setattr(lm, "tokenizer", tokenizer)
    batch, model = batch_of([[-1, -2, 1, 5, 6]], CHOICES, targets=[0]), tiny_model("llama")
    with torch.no_grad():
        told = [distribution(model, PromptBank(), [1, *TEXT_IDS, 5, 6], node) for node in NODES]
        own = [distribution(model, prompt(), [-1, -2, 1, 5, 6], node) for node in NODES]
    p_NV, q_NV = torch.stack(told), torch.stack(own)
    expected = float((p_NV * (p_NV / q_NV).log()).sum(-1).mean())
    loss = ContextDistillation(text=TEXT, labels=0.0)(lm, prompt(), batch, SUM)
    assert loss.mean.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("labels", [0.0, 0.5])
def test_the_loss_is_the_divergence_from_the_model_that_reads_the_text(lm: StreamLM, labels: float) -> None:
    student, model, total = prompt(), tiny_model("llama"), 0.0
    for row in ROWS:
        for node in NODES:
            p_V = distribution(model, PromptBank(), TEXT_IDS + row[2:], node)
            q_V = distribution(model, student, row, node)
            total += float((p_V * (p_V / q_V).log()).sum().detach())
    label = -float(score_targets(lm, student, BATCH).log_likelihood_BC.sum()) / 3
    loss = ContextDistillation(text=TEXT, labels=labels)(lm, student, BATCH, SUM)
    assert float(loss.mean) == pytest.approx(total / 4 + labels * label, rel=1e-4)
    assert float(loss.weight) == 4


def test_both_engines_give_the_same_loss(lm: StreamLM) -> None:
    plain = PlainLM(tiny_model("llama"), tiny_tokenizer(), name="tiny_llama")
    one, other = (
        ContextDistillation(text=TEXT, labels=1.0)(each, prompt(), BATCH, SUM) for each in (lm, plain)
    )
    torch.testing.assert_close(one.mean, other.mean, rtol=1e-4, atol=1e-6)


def test_a_prompt_that_is_the_text_has_no_divergence_whatever_the_labels(lm: StreamLM) -> None:
    keys_LHPK, values_LHPK = lm.spec.key_values(lm.spec.embedding_VD[TEXT_IDS[:2]])
    text = PromptBank(keys_TLHPK=keys_LHPK[None], values_TLHPK=values_LHPK[None])
    for targets in ([0, 1], [1, 0]):
        batch = batch_of(ROWS, CHOICES, targets=targets)
        assert ContextDistillation(text="w7 w8", labels=0.0)(lm, text, batch, SUM).mean.abs() < 1e-5


def test_an_empty_text_and_one_without_room_for_rows_are_refused(lm: StreamLM) -> None:
    with pytest.raises(ConfigError, match=r"objective\.text is ' '; give the text"):
        ContextDistillation(text=" ", labels=0.0)
    long = ContextDistillation(text=" ".join(["w7"] * 125), labels=0.0)
    with pytest.raises(ConfigError, match=r"have 129 tokens together, and tiny_llama has 128 positions"):
        long(lm, prompt(), BATCH, SUM)
