"""The distillation loss against its formulas, written out over plain logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softcue.backbone.scoring import TargetStates
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import Batch, Choices, PromptBank
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import bank_to_bytes
from softcue.training.distillation import Distillation
from softcue.training.objectives import LanguageModelLoss
from tests.tiny import HIDDEN, batch_of, score_targets, tiny_lm

CHOICES = ((20, 21), (22,))
ROWS = [[-1, -2, 5, 6], [-1, -2, 7, 9, 8], [-1, -2, 3]]
SUM = Scoring(per_token=False)
LAYOUT = "[soft:2]{input}"


@pytest.fixture(scope="module")
def lm() -> StreamLM:
    return tiny_lm("llama")


def embeddings(count: int, *, seed: int) -> Tensor:
    return torch.randn(count, 2, HIDDEN, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def teachers(tmp_path: Path, lm: StreamLM) -> list[str]:
    """Two complete runs, one for each task."""
    folders = []
    for task, prompt_PD in enumerate(embeddings(2, seed=0)):
        folder = tmp_path / f"teacher{task}"
        folder.mkdir()
        metadata = {"backbone": lm.spec.name, "layout": LAYOUT}
        bank = PromptBank(embeddings_TPD=prompt_PD[None])
        (folder / "prompt.safetensors").write_bytes(bank_to_bytes(bank, metadata))
        folders.append(str(folder))
    return folders


def test_a_teacher_of_several_prompts_is_refused(teachers: list[str]) -> None:
    metadata = {"backbone": "tiny_llama", "layout": LAYOUT}
    ensemble = PromptBank(embeddings_TPD=embeddings(2, seed=0))
    (Path(teachers[0]) / "prompt.safetensors").write_bytes(bank_to_bytes(ensemble, metadata))
    with pytest.raises(ConfigError, match="2 runs with 3 prompts"):
        distillation(teachers, logits=1.0, hidden=0.0)


def batch() -> Batch:
    return batch_of(ROWS, CHOICES, prompts=[0, 1, 0], targets=[0, 1, 0])


def distillation(teachers: list[str], *, logits: float, hidden: float, layout: str = LAYOUT) -> Distillation:
    return Distillation(teachers=teachers, tasks=["one", "two"], layout=layout, logits=logits, hidden=hidden)


def test_both_terms_equal_the_formulas_written_out(lm: StreamLM, teachers: list[str]) -> None:
    student = PromptBank(embeddings_TPD=embeddings(2, seed=1))
    teacher = PromptBank(embeddings_TPD=embeddings(2, seed=0))
    # A label of two tokens is predicted at two positions: 2 + 1 + 2 positions in all.
    student_MD, teacher_MD = (
        lm.states(bank, batch(), batch().target_choices).hidden_MD for bank in (student, teacher)
    )
    assert len(student_MD) == 5
    divergence = 0.0
    for student_D, teacher_D in zip(student_MD, teacher_MD, strict=True):
        q_V, p_V = lm.logits(student_D[None])[0].softmax(-1), lm.logits(teacher_D[None])[0].softmax(-1)
        divergence += float((p_V * (p_V / q_V).log()).sum()) / 5
    squares = float(((student_MD - teacher_MD) ** 2).sum()) / (5 * HIDDEN)
    label = -float(score_targets(lm, student, batch()).log_likelihood_BC.sum()) / 5
    loss = distillation(teachers, logits=0.5, hidden=2.0)(lm, student, batch(), SUM)
    assert float(loss.mean) == pytest.approx(label + 0.5 * divergence + 2.0 * squares, rel=1e-5)
    assert float(loss.weight) == 5


def test_a_student_equal_to_its_teachers_has_the_label_loss_only(lm: StreamLM, teachers: list[str]) -> None:
    same = PromptBank(embeddings_TPD=embeddings(2, seed=0))
    loss = distillation(teachers, logits=1.0, hidden=1.0)(lm, same, batch(), SUM)
    assert float(loss.mean) == pytest.approx(
        float(LanguageModelLoss()(lm, same, batch(), SUM).mean), rel=1e-5
    )


def test_without_weights_no_teacher_runs(lm: StreamLM, teachers: list[str]) -> None:
    student = PromptBank(embeddings_TPD=embeddings(2, seed=1))
    objective = distillation(teachers, logits=0.0, hidden=0.0)
    expected = LanguageModelLoss()(lm, student, batch(), SUM).mean
    assert torch.equal(objective(lm, student, batch(), SUM).mean, expected)
    assert not objective._states_of


def test_each_term_has_a_gradient_for_every_task(lm: StreamLM, teachers: list[str]) -> None:
    for logits, hidden in ((1.0, 0.0), (0.0, 1.0)):
        leaf = embeddings(2, seed=1).requires_grad_()
        objective = distillation(teachers, logits=logits, hidden=hidden)
        first = objective(lm, PromptBank(embeddings_TPD=leaf), batch(), SUM)
        first.mean.backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().sum(dim=(1, 2)).gt(0).all()


def test_a_teacher_runs_each_row_once_whatever_the_batches(
    lm: StreamLM, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, student = (
        distillation(teachers, logits=0.0, hidden=1.0),
        PromptBank(embeddings_TPD=embeddings(2, seed=1)),
    )
    whole, run = batch(), lm.states
    rows_run: list[tuple[int, ...]] = []

    def counted(bank: PromptBank, rows: Batch, choices: Sequence[Choices]) -> TargetStates:
        rows_run.extend(rows.rows if bank.embeddings_TPD is not student.embeddings_TPD else ())
        return run(bank, rows, choices)

    monkeypatch.setattr(lm, "states", counted)
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]):
        for rows in (order[:2], order[2:]):
            objective(lm, student, whole.select(rows), SUM)
    assert sorted(rows_run) == sorted(whole.rows)


def test_a_teachers_states_do_not_depend_on_the_batch(lm: StreamLM, teachers: list[str]) -> None:
    whole, alone = (distillation(teachers, logits=0.0, hidden=1.0) for _ in range(2))
    together_MD = whole._teacher_states(lm, batch())
    apart_MD = torch.cat([alone._teacher_states(lm, batch().select([row])) for row in range(3)])
    assert torch.equal(together_MD, apart_MD)


def test_teachers_that_do_not_match_are_refused(lm: StreamLM, teachers: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"1 runs for the tasks \['one', 'two'\]"):
        distillation(teachers[:1], logits=1.0, hidden=0.0)
    with pytest.raises(ConfigError, match="same layout"):
        distillation(teachers, logits=1.0, hidden=0.0, layout="{input}[soft:2]")
    with pytest.raises(ConfigError, match="weights are 0 or more"):
        distillation(teachers, logits=-1.0, hidden=0.0)
    objective = distillation(teachers, logits=1.0, hidden=0.0)
    student = PromptBank(embeddings_TPD=embeddings(2, seed=1))
    with pytest.raises(ConfigError, match="this run's backbone is"):
        objective(tiny_lm("bloom"), student, batch(), SUM)
