"""Self-training against its loss written out over the model's own forward, and a run from a table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softcue.contracts import PromptBank
from softcue.errors import ConfigError, DataError
from softcue.evaluation.scoring import Scoring
from softcue.execute import train
from softcue.formats.prompt_file import bank_to_bytes
from softcue.plan import prepare
from softcue.training.objectives import LanguageModelLoss
from softcue.training.self_training import SelfTraining
from tests.composing import train_config
from tests.integration.conftest import CACHE, tiny_backbone
from tests.running import train_one
from tests.tiny import HIDDEN, batch_of, plain_log_likelihood, tiny_lm, tiny_model

__all__ = ["tiny_backbone"]

CHOICES = ((20, 21), (22,))
ROWS = [[-1, -2, 5, 6], [-1, -2, 7, 9, 8], [-1, -2, 4]]
SUM, LAYOUT = Scoring(per_token=False), "[soft:2]{input}"
COMMON = (
    *("prompt=prompt_tuning", "prompt.layout='[soft:4]{input}'", "data=table", "data.task.name=reviews"),
    *("split=few_shot", "split.num_train=8", "split.num_test=4", "trainer.max_epochs=2"),
    *(
        "callbacks.progress_bar=null",
        "trainer.enable_progress_bar=false",
        "backbone=local",
        "backbone.name=tiny",
    ),
)


def prompt(seed: int) -> PromptBank:
    generator = torch.Generator().manual_seed(seed)
    return PromptBank(embeddings_TPD=torch.randn(1, 2, HIDDEN, generator=generator))


@pytest.fixture
def teachers(tmp_path: Path) -> list[str]:
    metadata = {"backbone": "tiny_llama", "layout": LAYOUT, "task": "reviews"}
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        (folder / "prompt.safetensors").write_bytes(bank_to_bytes(prompt(seed), metadata))
    return [str(tmp_path / str(seed)) for seed in (1, 2)]


def objective(teachers: list[str], unlabelled: float = 1.0, **other: str) -> SelfTraining:
    task, layout = other.get("task", "reviews"), other.get("layout", LAYOUT)
    return SelfTraining(teachers=teachers, tasks=[task], layout=layout, unlabelled=unlabelled)


def test_the_loss_is_that_of_labels_under_the_teachers_mean_probabilities(teachers: list[str]) -> None:
    lm, model, student = tiny_lm("llama"), tiny_model("llama"), prompt(0)
    batch = batch_of(ROWS, CHOICES, targets=[0, -1, -1])
    found = objective(teachers, unlabelled=0.5)(lm, student, batch, SUM)
    said_TBC = torch.stack([plain_log_likelihood(model, prompt(seed), ROWS, CHOICES) for seed in (1, 2)])
    share_BC = 0.5 * said_TBC.softmax(dim=2).mean(dim=0).detach()
    share_BC[0] = torch.tensor([1.0, 0.0])
    tokens = float((share_BC * torch.tensor([2.0, 1.0])).sum())
    total = float((share_BC * plain_log_likelihood(model, student, ROWS, CHOICES)).sum().detach())
    assert float(found.mean) == pytest.approx(-total / tokens, rel=1e-4)
    assert float(found.weight) == pytest.approx(tokens, rel=1e-4)


def test_of_labelled_rows_it_is_the_language_model_loss(teachers: list[str]) -> None:
    lm, batch = tiny_lm("llama"), batch_of(ROWS, CHOICES, targets=[0, 1, 1])
    ours, usual = (loss(lm, prompt(0), batch, SUM) for loss in (objective(teachers), LanguageModelLoss()))
    torch.testing.assert_close(ours.mean, usual.mean)
    assert float(ours.weight) == float(usual.weight)


def test_other_teachers_are_refused(teachers: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"was trained for reviews, and this run is for films"):
        objective(teachers, task="films")
    with pytest.raises(ConfigError, match=r"has layout .* give both the same layout"):
        objective(teachers, layout="{input}[soft:2]")
    with pytest.raises(ConfigError, match=r"objective\.teachers is \[\]; give"):
        objective([])


def table(folder: Path) -> Path:
    lines = [f'"the film number {at} was {"fine" if at % 2 else "long"}",{"yn"[at % 2]}' for at in range(16)]
    lines += [f'"one more film, of {at} hours",' for at in range(6)]
    path = folder / "reviews.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n")
    return path


def test_a_run_trains_on_rows_without_a_label_too(tmp_path: Path, tiny_backbone: Path) -> None:
    own = (
        *(f"data.source.path={table(tmp_path)}", f"backbone.path={tiny_backbone}"),
        *(f"paths.runs={tmp_path / 'runs'}", f"paths.cache={CACHE}"),
    )
    runs = train(train_config(*COMMON, *own, "split.seed=0", "joint.seed=[0,1]"))
    given = ("objective=self_training", f"objective.teachers=[{','.join(str(run.path) for run in runs)}]")
    student = train_one(train_config(*COMMON, *own, *given, "data.train_unlabelled=5"))
    record = student.record()
    assert record is not None
    assert record.training is not None
    # Eight labelled rows and five others are two batches of eight.
    assert (record.status, record.training.steps) == ("complete", 4)
    assert (
        student.path.name
        != train_one(train_config(*COMMON, *own, *given, "data.train_unlabelled=4")).path.name
    )
    refusals: dict[str, tuple[type[Exception], list[str]]] = {
        r"is 7, and reviews has 6 rows without a label": (DataError, [*given, "data.train_unlabelled=7"]),
        r"data\.train_unlabelled is null; set it": (ConfigError, [*given]),
        r"is 5, and this objective reads labelled rows alone": (ConfigError, ["data.train_unlabelled=5"]),
        r"is 5, and prompt=tfidf trains no prompt": (
            ConfigError,
            [*given, "data.train_unlabelled=5", "prompt=baseline/tfidf"],
        ),
    }
    for message, (kind, overrides) in refusals.items():
        with pytest.raises(kind, match=message):
            prepare(train_config(*COMMON, *own, *overrides))
