"""XPrompt's importances, pruning and rewinding, on gradients computed row by row by a plain forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.build.checks import validate
from softcue.build.data import build_data
from softcue.contracts import PromptBank, TrainingRows
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import bank_to_bytes
from softcue.prompts.xprompt import XPrompt
from softcue.training.objectives import LanguageModelLoss
from softcue.training.row_gradients import row_gradients
from tests.composing import train_config
from tests.prompts.formulas import count, expect_formula
from tests.tiny import HIDDEN, batch_of, plain_log_likelihood, tiny_model

SOURCE_TOKENS, PIECES = 6, 4
ROWS = [[-1, -2, 5, 6], [-1, -2, 9, 8, 4], [-1, -2, 7]]
LABELS = ((20, 21), (22,))
TARGETS = [0, 1, 1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Tensor]:
    """A trained prompt: its folder and its vectors."""
    vectors_SD = torch.randn(SOURCE_TOKENS, HIDDEN, generator=Generator().manual_seed(0))
    return save(tmp_path_factory.mktemp("source"), PromptBank(embeddings_TPD=vectors_SD[None])), vectors_SD


def save(folder: Path, bank: PromptBank) -> str:
    (folder / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": "tiny_llama"}))
    return str(folder)


@pytest.fixture(scope="module")
def rows(llama: StreamLM) -> TrainingRows:
    """Two batches, as a run has them."""
    batches = [
        batch_of(ROWS[:2], LABELS, targets=TARGETS[:2]),
        batch_of(ROWS[2:], LABELS, targets=TARGETS[2:]),
    ]
    scoring = Scoring(per_token=False)
    return TrainingRows(
        demonstrations=(),
        gradients=partial(row_gradients, llama, LanguageModelLoss(), scoring, batches),
    )


def make(lm: StreamLM, rows: TrainingRows, source: str, *, keep: int, **settings: Any) -> XPrompt:
    given = {"member": None, "num_pieces": PIECES, "kept_pieces": 0.5, **settings}
    return XPrompt(
        spec=lm.spec, num_virtual_tokens=keep, generator=Generator(), rows=rows, source=source, **given
    )


def gate_gradients(gated: Callable[[Tensor], Tensor], gates: Tensor) -> Tensor:
    """Section 3.2: the mean over rows of |dL/dγ| at γ = 1, each row alone by the plain forward."""
    total, model = torch.zeros_like(gates), tiny_model("llama")
    for row, target in zip(ROWS, TARGETS, strict=True):
        vectors_PD = gated(gates)
        whole = [-1 - k for k in range(len(vectors_PD))] + [token for token in row if token >= 0]
        bank, label = PromptBank(embeddings_TPD=vectors_PD[None]), LABELS[target]
        loss = -plain_log_likelihood(model, bank, [whole], (label,)).sum() / len(label)
        (gradient,) = torch.autograd.grad(loss, gates)
        total += gradient.abs()
    return total / len(ROWS)


def test_tokens_and_pieces_of_the_highest_importance_are_kept_as_they_were(
    llama: StreamLM, rows: TrainingRows, source: tuple[str, Tensor]
) -> None:
    folder, trained_SD = source
    by_token_S = gate_gradients(
        lambda gate_S: gate_S[:, None] * trained_SD, torch.ones(SOURCE_TOKENS, requires_grad=True)
    )
    tokens = sorted(by_token_S.topk(3).indices.tolist())
    kept_PD = trained_SD[tokens]
    by_piece_Pk = gate_gradients(
        lambda gate_Pk: gate_Pk.repeat_interleave(HIDDEN // PIECES, dim=1) * kept_PD,
        torch.ones(3, PIECES, requires_grad=True),
    )
    pieces = by_piece_Pk.flatten().topk(6).indices
    mask_Pk = torch.zeros(3 * PIECES).index_fill(0, pieces, 1.0).view(3, PIECES)
    expected_PD = mask_Pk.repeat_interleave(HIDDEN // PIECES, dim=1) * kept_PD

    prompt = make(llama, rows, folder, keep=3)
    found_TPD = prompt().embeddings_TPD
    assert found_TPD is not None
    assert torch.equal(found_TPD[0].detach(), expected_PD)
    assert count(prompt) == 6 * HIDDEN // PIECES


def test_what_was_pruned_stays_zero_and_what_was_kept_is_trained(
    llama: StreamLM, rows: TrainingRows, source: tuple[str, Tensor]
) -> None:
    prompt = make(llama, rows, source[0], keep=4)

    def formula(of: Mapping[str, Tensor]) -> PromptBank:
        numbers = iter(of["numbers_n"].unbind())
        zero = torch.zeros(())
        flat = [next(numbers) if kept else zero for kept in prompt.is_kept_PD.flatten().tolist()]
        return PromptBank(embeddings_TPD=torch.stack(flat).view(1, 4, HIDDEN))

    expect_formula(llama, prompt, formula)


def test_with_all_pieces_the_prompt_is_the_sources_best_tokens(
    llama: StreamLM, rows: TrainingRows, source: tuple[str, Tensor]
) -> None:
    folder, trained_SD = source
    whole_TPD = make(llama, rows, folder, keep=SOURCE_TOKENS, kept_pieces=1.0)().embeddings_TPD
    assert whole_TPD is not None
    assert torch.equal(whole_TPD[0], trained_SD)


def test_sources_and_pieces_that_cannot_be_are_refused(
    llama: StreamLM, rows: TrainingRows, source: tuple[str, Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"has 6 virtual tokens, fewer than the 7 that prompt\.layout"):
        make(llama, rows, source[0], keep=7)
    with pytest.raises(ConfigError, match=r"num_pieces is 5, and tiny_llama's 32 .* choose a divisor"):
        make(llama, rows, source[0], keep=2, num_pieces=5)
    spec = llama.spec
    keys = torch.zeros(1, spec.num_layers, spec.num_kv_heads, 3, spec.head_size)
    prefix = save(tmp_path, PromptBank(keys_TLHPK=keys, values_TLHPK=keys.clone()))
    with pytest.raises(ConfigError, match=r"holds keys and values, and prompt=xprompt prunes embeddings"):
        make(llama, rows, prefix, keep=2)


def test_virtual_tokens_in_two_slots_are_refused_before_rows_and_model_are_read() -> None:
    layout = "prompt.layout='[soft:4]{input}[soft:4] :'"
    config = train_config("prompt=xprompt", "prompt.source=one", layout)
    data = build_data(config)
    with pytest.raises(ConfigError, match=r"but xprompt needs its virtual tokens in one slot"):
        validate(config, data)
