"""Real tweets, real Trainer, a few steps: every method on a tiny model, some on the embedded one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from softcue.build.backbone import build_backbone
from softcue.build.data import build_data
from softcue.contracts import Batch
from softcue.errors import TrainingError
from softcue.evaluation.predictions import predict
from softcue.evaluation.scoring import Scoring
from softcue.formats.prompt_file import load_bank
from softcue.runs.store import RunFolder
from tests.cases import slow_but
from tests.integration.conftest import Quickstart
from tests.running import train_one

LEARNING = ["prompt_tuning", "prefix_tuning", "prefix_tuning_projected", "p_tuning", "p_tuning_lstm"]
SUM = Scoring(per_token=False)


def losses(folder: RunFolder) -> list[float]:
    return [float(loss) for loss in pd.read_csv(folder.path / "metrics.csv")["train/loss"].dropna()]


def weights_digest(settings: DictConfig) -> str:
    digest = hashlib.sha256()
    for tensor in build_backbone(settings).model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("method", slow_but(["prompt_tuning", "prefix_tuning"], LEARNING))
def test_a_method_learns_and_leaves_a_complete_record(quickstart: Quickstart, method: str) -> None:
    expect_learning(quickstart(f"prompt={method}", "optimizer.lr=0.1"), method, backbone="tiny")


@pytest.mark.parametrize("method", slow_but(["prompt_tuning"], LEARNING))
def test_a_method_learns_on_the_embedded_model(real_quickstart: Quickstart, method: str) -> None:
    few = ["split.num_train=4", "split.num_test=4", "trainer.max_epochs=3"]
    expect_learning(real_quickstart(f"prompt={method}", *few), method, backbone="smollm2_135m")


def settings_rows(settings: DictConfig) -> dict[str, int]:
    return {"train": settings.split.num_train, "test": settings.split.num_test}


def expect_learning(settings: DictConfig, method: str, *, backbone: str) -> None:
    before = weights_digest(settings)
    folder = train_one(settings)

    by_epoch = losses(folder)
    assert by_epoch[-1] < by_epoch[0]
    assert weights_digest(settings) == before, "the frozen weights changed"
    record = folder.record()
    assert record is not None
    assert record.status == "complete"
    assert record.num_rows == {**settings_rows(settings), "validation": 0, "unlabelled": 0}
    assert set(record.metrics) == {"test"}
    assert record.metrics["test"].keys() >= {
        "accuracy",
        "macro_f1",
        "auroc",
        "calibration_error",
        "perplexity",
    }
    assert record.training is not None
    assert record.training.steps == settings.trainer.max_epochs
    assert record.parameters is not None
    assert record.times is not None
    assert record.times.train_s > 0
    assert record.peak_memory_mb is not None
    assert (record.backbone, record.dtype, record.engine) == (backbone, "float32", "stream")
    assert record.settings["prompt"]["name"] == method


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning_lstm", "prefix_tuning"])
def test_the_trained_prompt_reloads_to_identical_predictions(quickstart: Quickstart, method: str) -> None:
    expect_identical_reload(quickstart(f"prompt={method}", "trainer.max_epochs=2"))


@pytest.mark.slow
def test_a_prefix_on_the_embedded_model_reloads_to_identical_predictions(real_quickstart: Quickstart) -> None:
    expect_identical_reload(real_quickstart("prompt=prefix_tuning", "trainer.max_epochs=2"))


def expect_identical_reload(settings: DictConfig) -> None:
    folder = train_one(settings)
    saved = pd.read_parquet(folder.predictions_path("test"))
    lm, data = build_backbone(settings), build_data(settings)
    data.encode(lm.tokenizer, lm.spec.max_positions, padded=lm.takes_padded_rows)

    bank, metadata = load_bank(folder.prompt_path)
    (task,) = data.tasks.values()
    again = predict(lm, bank, cast(Iterable[Batch], task.eval_dataloader("test")), SUM)
    columns = again.columns(task.task.classes, ids=data.ids("test"), texts=task.texts("test"))
    assert columns == saved.to_dict(orient="list")
    assert metadata["layout"] == settings.prompt.layout
    assert metadata["backbone"] == settings.backbone.name


def test_the_hard_prompt_and_tfidf_are_scored_on_the_same_rows(quickstart: Quickstart) -> None:
    ids = []
    for method in ("hard_prompt", "baseline/tfidf"):
        folder = train_one(quickstart(f"prompt={method}"))
        record = folder.record()
        assert record is not None
        assert record.training is None
        ids.append(pd.read_parquet(folder.predictions_path("test"))["id"].tolist())
        if method == "baseline/tfidf":
            assert (record.backbone, record.metrics["test"]["perplexity"]) == (None, None)
    assert ids[0] == ids[1]
    assert len(ids[0]) == 12


def test_a_complete_run_is_not_run_again(quickstart: Quickstart) -> None:
    folder = train_one(quickstart("prompt=hard_prompt"))
    first = folder.record_path.stat().st_mtime_ns
    assert train_one(quickstart("prompt=hard_prompt")).path == folder.path
    assert folder.record_path.stat().st_mtime_ns == first


def test_a_dry_run_writes_nothing(quickstart: Quickstart, tmp_path: Path) -> None:
    folder = train_one(quickstart("dry=true"))
    assert not folder.path.exists()
    assert not (tmp_path / "runs").exists()


def test_a_loss_that_is_no_number_stops_the_run_and_its_record_says_failed(quickstart: Quickstart) -> None:
    settings = quickstart("prompt=prefix_tuning", "optimizer.lr=3e37", "scheduler=constant")
    with pytest.raises(TrainingError, match=r"the loss is no longer finite at step 1 with .* 3e\+37; lower"):
        train_one(settings)
    (path,) = Path(settings.paths.runs).glob("*/record.json")
    failed = json.loads(path.read_text())
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "TrainingError"
    assert "prompt.learning_rate" in failed["error"]["message"]


def test_early_stopping_keeps_the_prompt_that_validation_liked_best(quickstart: Quickstart) -> None:
    settings = quickstart(
        "callbacks=early_stopping",
        "callbacks.progress_bar=null",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.monitor=validation/loss",
        "callbacks.early_stopping.mode=min",
        "split.num_validation=8",
        "optimizer.lr=0.3",  # too high on purpose: the first epochs are the best
    )
    folder = train_one(settings)
    record = folder.record()
    assert record is not None
    assert record.training is not None
    assert record.training.monitor == "validation/loss"
    curve = pd.read_csv(folder.path / "metrics.csv").dropna(subset=["validation/loss"])
    best = curve["validation/loss"].min()
    assert record.training.best_value == pytest.approx(best)
    nll = pd.read_parquet(folder.predictions_path("validation"))["nll"]
    num_label_tokens = pd.read_parquet(folder.predictions_path("validation"))["label"].map(
        {"complaint": 1, "no complaint": 2}
    )
    assert nll.sum() / num_label_tokens.sum() == pytest.approx(best, rel=1e-4)


def test_the_choice_loss_learns_too(quickstart: Quickstart) -> None:
    by_epoch = losses(train_one(quickstart("objective=choice", "scoring=mean")))
    assert by_epoch[-1] < by_epoch[0]


def test_wandb_is_offline_without_a_key_and_holds_config_metrics_and_summary(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    folder = train_one(quickstart("logger=[csv,wandb]", "trainer.max_epochs=2"))
    (run_file,) = (folder.path / "wandb").glob("offline-run-*/run-*.wandb")
    content = run_file.read_bytes()
    for expected in (b"prompt_tuning", b"train/loss", b"learning_rate", b"test/macro_f1"):
        assert expected in content


def test_adafactor_in_lesters_setting_trains_and_tensorboard_follows(quickstart: Quickstart) -> None:
    settings = quickstart(
        "optimizer=adafactor", "optimizer.lr=0.3", "scheduler=constant", "logger=[csv,tensorboard]"
    )
    folder = train_one(settings)
    by_epoch = losses(folder)
    assert by_epoch[-1] < by_epoch[0]
    events = EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    names = set(pd.read_csv(folder.path / "metrics.csv").columns) - {"epoch", "step"}
    assert set(events.Tags()["scalars"]) - {"epoch", "hp_metric"} == names


def test_rows_that_were_all_cut_still_have_a_finite_loss(quickstart: Quickstart) -> None:
    folder = train_one(quickstart("data.max_length=9", "trainer.max_epochs=1"))
    record = folder.record()
    assert record is not None
    assert record.num_cut["train"] == 8
    assert all(math.isfinite(loss) for loss in losses(folder))
    assert all(value is None or math.isfinite(value) for value in record.metrics["test"].values())


def test_mixed_precision_keeps_the_prompt_in_fp32(quickstart: Quickstart) -> None:
    folder = train_one(
        quickstart("prompt=prefix_tuning", "trainer.precision=bf16-mixed", "trainer.max_epochs=1")
    )
    bank, _ = load_bank(folder.prompt_path)
    assert {tensor.dtype for tensor in bank.tensors().values()} == {torch.float32}
    assert all(math.isfinite(loss) for loss in losses(folder))
