"""Whole runs that write texts: records, predictions, joint training and refusals."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoTokenizer

import softcue
from softcue.build.data import build_data
from softcue.configs import CONFIG_PATH
from softcue.errors import BackboneError, ConfigError, RunError
from softcue.execute import train
from softcue.export.adapter import peft_files
from softcue.formats.folder import write_folder
from softcue.formats.prompt_file import load_bank
from softcue.plan import prepare
from softcue.predict.command import predict_table
from softcue.predict.settings import PredictSettings
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.trained import load
from tests.composing import train_config
from tests.integration.conftest import CACHE, Quickstart
from tests.running import train_one
from tests.tiny_backbone import save_tiny_backbone

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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    backbone = save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)
    settings = [
        *("experiment=quickstart", *TEXTS, "split.num_train=8", "split.num_test=12"),
        *("backbone=local", f"backbone.path={backbone}", "backbone.name=tiny", f"paths.cache={CACHE}"),
        *("trainer.enable_progress_bar=false", "callbacks.progress_bar=null"),
        f"paths.runs={tmp_path_factory.mktemp('runs')}",
    ]
    return train_one(train_config(*settings))


@pytest.fixture
def trained(trained_once: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of one run, which a test may change."""
    shutil.copytree(trained_once.path, tmp_path / "copy" / trained_once.path.name)
    return RunFolder(tmp_path / "copy", trained_once.path.name)


def test_a_trained_prompt_writes_what_its_run_has_written(trained: RunFolder) -> None:
    prompt, rows = load(trained.path), pd.read_parquet(trained.predictions_path("test"))
    assert prompt.generate(rows["text"].tolist(), batch_size=5) == rows["predicted"].tolist()
    assert prompt.generate(rows["text"][0]) == rows["predicted"][0]
    beams = prompt.generate(rows["text"][0], decoding=replace(prompt.decoding, num_beams=3, max_new_tokens=2))
    assert len(prompt.lm.tokenizer(beams)["input_ids"]) <= 3
    assert prompt.generate([]) == []
    with pytest.raises(ConfigError, match="was trained to write texts, not to choose classes; use generate"):
        prompt.predict("a tweet")


def test_evaluating_a_trained_prompt_gives_its_records_metrics(trained: RunFolder) -> None:
    rows = pd.read_parquet(trained.predictions_path("test"))
    frame = pd.DataFrame({"Tweet text": rows["text"], "summary": rows["references"].map(list)})
    found = softcue.load(trained.path).evaluate(frame, batch_size=5)
    assert found == pytest.approx(record_of(trained).metrics["test"], rel=1e-4)


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")
def test_the_cards_code_writes_with_peft_what_the_prompt_writes(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = load(trained.path)
    write_folder(tmp_path / "shared", peft_files({prompt.task.name: prompt}, name="shared"))
    monkeypatch.chdir(tmp_path)
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "After it comes a text, which ends with the end token." in card
    with_peft, with_softcue = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(with_peft.replace('"..."', '"my bag is lost"'), {})
    assert capsys.readouterr().out.strip() == prompt.generate("my bag is lost")
    exec(with_softcue.replace('"..."', '"my bag is lost"'), {})
    assert capsys.readouterr().out.strip() == str([prompt.generate("my bag is lost")])


def test_softcue_predict_writes_texts(trained: RunFolder, tmp_path: Path) -> None:
    rows = pd.read_parquet(trained.predictions_path("test"))
    rows.rename(columns={"text": "Tweet text"})[["id", "Tweet text"]].to_json(
        tmp_path / "tweets.jsonl", orient="records", lines=True
    )
    settings = OmegaConf.to_container(OmegaConf.load(CONFIG_PATH / "predict.yaml"))
    assert isinstance(settings, dict)
    given = {
        "run": str(trained.path),
        "input": str(tmp_path / "tweets.jsonl"),
        "output": str(tmp_path / "o.csv"),
    }
    known = {field.name for field in fields(PredictSettings)}
    plain = {str(key): value for key, value in {**settings, **given}.items() if key in known}
    predict_table(PredictSettings.of(plain))
    written = pd.read_csv(tmp_path / "o.csv", keep_default_na=False)
    assert list(written) == ["id", "Tweet text", "predicted"]
    assert written["predicted"].tolist() == rows["predicted"].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_target_": "os.system"}, r"settings\.data\.decoding is of kind 'os\.system'"),
        ({"num_beams": "4"}, r"data\.decoding\.num_beams is '4'"),
        ({"top_p": 2.0}, r"data\.decoding: decoding\.top_p is 2\.0; give above 0 and at most 1"),
    ],
)
def test_a_received_folder_is_checked(trained: RunFolder, change: dict[str, object], message: str) -> None:
    record = json.loads(trained.record_path.read_text())
    record["settings"]["data"]["decoding"] |= change
    trained.record_path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=message):
        load(trained.path)


def test_a_received_target_is_checked(trained: RunFolder) -> None:
    record = json.loads(trained.record_path.read_text())
    record["settings"]["data"]["task"]["target"] = {"column": 3}
    trained.record_path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"data\.task\.target is \{'column': 3\}"):
        load(trained.path)


@pytest.mark.slow
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
    monkeypatch.setattr("softcue.build.prompted.build_backbone", lambda _: pytest.fail("loads the model"))
    with pytest.raises(ConfigError, match=message):
        prepare(quickstart(*TEXTS, *overrides))


def test_texts_that_do_not_fit_the_model_are_refused_before_training(quickstart: Quickstart) -> None:
    for override, message in (
        ("max_new_tokens=3000", r"a row of \d+ tokens and decoding\.max_new_tokens=3000 exceed the 2048 pos"),
        (
            "num_beams=1000000",
            r"decoding\.num_beams=1000000 and 32 rows of \d+ tokens take .* GB are free on",
        ),
    ):
        with pytest.raises(BackboneError, match=message):
            train_one(quickstart(*TEXTS, f"data.decoding.{override}"))


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_a_prompt_trained_in_a_chat_is_used_in_one(quickstart: Quickstart, method: str) -> None:
    folder = train_one(quickstart(*TEXTS, "backbone.chat=true", f"prompt={method}"))
    rows, prompt = pd.read_parquet(folder.predictions_path("test")), load(folder.path)
    assert prompt.generate(rows["text"].tolist()) == rows["predicted"].tolist()
    row = prompt.encoder.encode_row({"Tweet text": "hello"}).ids
    assert prompt.lm.decode([token for token in row if token >= 0]).endswith("Summary :\nassistant\n")
    if method == "prompt_tuning":
        with pytest.raises(
            ConfigError, match=r"was trained with backbone\.chat=true, inside the user's turn"
        ):
            peft_files({prompt.task.name: prompt}, name="x")
