"""Whole runs that write texts: records, predictions, joint training and refusals."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer

from softcue.build import build_data
from softcue.errors import ConfigError
from softcue.execute import train
from softcue.formats.prompt_file import load_bank
from softcue.plan import prepare
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from tests.integration.conftest import CACHE, Quickstart
from tests.running import train_one

TEXTS = ("data=airline_summaries", "trainer.max_epochs=2")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def record_of(folder: RunFolder) -> RunRecord:
    record = folder.record()
    assert record is not None
    return record


def test_a_run_on_texts_records_their_metrics_and_keeps_the_texts(quickstart: Quickstart) -> None:
    config = quickstart(*TEXTS)
    folder = train_one(config)
    record, data = record_of(folder), build_data(config)
    data.load()
    rows = pd.read_parquet(folder.predictions_path("test"))
    assert list(rows) == ["id", "text", "label", "references", "nll", "predicted"]
    (task,) = data.tasks.values()
    assert [tuple(one) for one in rows["references"]] == task.references("test")
    assert set(record.metrics["test"]) == {
        *(
            "perplexity",
            "exact_match",
            "token_f1",
            "bleu",
            "rouge1",
            "rouge2",
            "rougeL",
            "chrf",
            "unfinished",
        ),
    }
    assert {"train/target", "test/target"} <= set(record.num_cut)
    assert record.training is not None
    curve = pd.read_csv(folder.path / "metrics.csv")
    losses = curve["train/loss"].dropna().tolist()
    assert losses[-1] < losses[0]


def test_the_perplexity_is_that_of_the_references_tokens(quickstart: Quickstart) -> None:
    folder = train_one(quickstart(*TEXTS, "prompt=hard_prompt"))
    rows = pd.read_parquet(folder.predictions_path("test"))
    tokenizer = AutoTokenizer.from_pretrained(record_of(folder).settings["backbone"]["path"])
    counts = [len(tokenizer(f" {label}")["input_ids"]) + 1 for label in rows["label"]]
    perplexity = record_of(folder).metrics["test"]["perplexity"]
    assert perplexity == pytest.approx(math.exp(rows["nll"].sum() / sum(counts)), rel=1e-4)


def test_runs_on_texts_that_train_jointly_are_those_alone(quickstart: Quickstart, tmp_path: Path) -> None:
    slow = [*TEXTS, "optimizer.lr=0.001"]
    for seed, folder in enumerate(train(quickstart(*slow, "joint.seed=[0,1]"))):
        alone = train_one(quickstart(*slow, f"seed={seed}", f"paths.runs={tmp_path / 'alone'}"))
        assert alone.path.name == folder.path.name
        ours, theirs = load_bank(folder.prompt_path)[0].tensors(), load_bank(alone.prompt_path)[0].tensors()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        texts = [
            pd.read_parquet(one.predictions_path("test"))["predicted"].tolist() for one in (folder, alone)
        ]
        assert texts[0] == texts[1]


def test_a_run_on_classes_says_how_often_the_generated_label_is_right(quickstart: Quickstart) -> None:
    config = quickstart("trainer.max_epochs=1", "+decoding@data.decoding=greedy", "data.task.end_token=true")
    folder = train_one(config)
    rows, metrics = pd.read_parquet(folder.predictions_path("test")), record_of(folder).metrics["test"]
    right = rows["generated"] == rows["label"]
    known = rows["generated"].isin(["complaint", "no complaint"])
    assert (metrics["label_match"], metrics["no_class"]) == (right.mean(), 1 - known.mean())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=choice"], r"objective needs classes, and data\.task\.target is a text\. Set objective="),
        (["scoring=batch"], r"scoring\.calibration needs classes"),
        (["prompt=baseline/tfidf"], r"prompt=tfidf only chooses among classes"),
        (
            ["callbacks=early_stopping", "split.num_validation=4"],
            r"callbacks monitor 'validation/macro_f1', and the target is a text; choose one of",
        ),
        (["data.decoding.num_beams=3", "data.decoding.temperature=1"], r"3 beams and temperature 1"),
    ],
)
def test_what_needs_classes_is_refused_before_loading(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    monkeypatch.setattr("softcue.build.build_backbone", lambda _: pytest.fail("loads the model"))
    with pytest.raises(ConfigError, match=message):
        prepare(quickstart(*TEXTS, *overrides))


def test_texts_that_do_not_fit_the_model_are_refused_before_training(quickstart: Quickstart) -> None:
    with pytest.raises(ConfigError, match=r"data\.decoding\.max_new_tokens is 3000, and rows have up to"):
        train_one(quickstart(*TEXTS, "data.decoding.max_new_tokens=3000"))
