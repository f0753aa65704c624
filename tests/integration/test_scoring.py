"""Several scorings of one evaluation; a trained prompt predicts with the calibration of its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from softcue.backbone.base import Backbone
from softcue.backbone.scoring import TargetScores
from softcue.build.data import build_data
from softcue.contracts import Batch, Choices, PromptBank
from softcue.errors import ConfigError
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.trained import load
from tests.integration.conftest import CACHE, Quickstart
from tests.running import train_one

CALIBRATIONS = ("contextual", "batch", "threshold", "affine")
P = ["p(complaint)", "p(no complaint)"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def record_of(folder: RunFolder) -> RunRecord:
    record = folder.record()
    assert record is not None
    return record


def test_every_scoring_of_one_evaluation_is_as_in_a_run_of_its_own(
    quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    read = Backbone.score

    def counted(self: Backbone, bank: PromptBank, batch: Batch, choices: Sequence[Choices]) -> TargetScores:
        scored.append(len(batch))
        return read(self, bank, batch, choices)

    monkeypatch.setattr(Backbone, "score", counted)
    several = train_one(quickstart("prompt=hard_prompt", "scoring=all"))
    assert sum(scored) == 8 + 12 + 3  # training, test and content-free texts, once
    record = record_of(several)
    assert set(record.metrics) == {"test", *(f"test@{name}" for name in ("mean", *CALIBRATIONS))}
    assert set(record.calibrations) == {f"airline_complaints@{name}" for name in CALIBRATIONS}
    for name in ("sum", "mean", *CALIBRATIONS):
        alone = train_one(quickstart("prompt=hard_prompt", f"scoring={name}"))
        suffix = "" if name == "sum" else f"@{name}"
        assert record_of(alone).metrics["test"] == pytest.approx(
            record.metrics[f"test{suffix}"], rel=1e-6, nan_ok=True
        )
        pd.testing.assert_frame_equal(
            pd.read_parquet(alone.predictions_path("test")),
            pd.read_parquet(several.predictions_path(f"test{suffix}")),
        )


def test_batch_calibration_divides_by_the_mean_of_the_stated_rows(quickstart: Quickstart) -> None:
    folder = train_one(
        quickstart(
            *("prompt=hard_prompt", "scoring=all", "predict_train=true"),
            "scoring.also.batch.calibration.rows=train",
        )
    )
    plain = {part: pd.read_parquet(folder.predictions_path(part))[P].to_numpy() for part in ("train", "test")}
    found = pd.read_parquet(folder.predictions_path("test@batch"))[P].to_numpy()
    ratio = plain["test"] / plain["train"].mean(axis=0)
    assert found == pytest.approx(ratio / ratio.sum(axis=1, keepdims=True), abs=1e-5)
    calibration = record_of(folder).calibrations["airline_complaints@batch"]
    assert (calibration.rows, calibration.num_rows) == ("train rows without their labels", 8)


@pytest.mark.parametrize("scoring", CALIBRATIONS)
def test_a_trained_prompt_predicts_with_the_calibration_of_its_record(
    quickstart: Quickstart, scoring: str
) -> None:
    config = quickstart("prompt=prompt_tuning", f"scoring={scoring}", "trainer.max_epochs=1")
    folder = train_one(config)
    saved = pd.read_parquet(folder.predictions_path("test"))
    prompt = load(folder.path)
    assert prompt.parts.calibration == record_of(folder).calibrations["airline_complaints"]
    data = build_data(config)
    data.load()
    (task,) = data.tasks.values()
    rows = prompt.probabilities([{"Tweet text": text} for text in task.texts("test")], batch_size=4)
    np.testing.assert_allclose(rows.numpy(), saved[P].to_numpy(), atol=1e-5)


def test_a_baseline_is_calibrated_too_and_sum_and_mean_are_one(quickstart: Quickstart) -> None:
    record = record_of(train_one(quickstart("prompt=baseline/tfidf", "scoring=all")))
    assert record.metrics["test"] == pytest.approx(record.metrics["test@mean"], nan_ok=True)
    assert record.calibrations["airline_complaints@contextual"].num_rows == 3


def test_calibration_on_a_part_without_rows_is_refused_before_training(quickstart: Quickstart) -> None:
    config = quickstart("scoring=batch", "scoring.calibration.rows=unlabelled")
    with pytest.raises(
        ConfigError, match="rows is unlabelled, and airline_complaints has no unlabelled rows"
    ):
        train_one(config)


def test_unlabelled_rows_that_are_added_later_are_calibrated_as_before(
    quickstart: Quickstart, tmp_path: Path
) -> None:
    rows = [f"row {at} is {label},{label}" for at, label in enumerate(["good", "bad"] * 8)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows, "row good,", "row bad,"]) + "\n")
    table = [
        "data=table",
        "data.task.name=rows",
        "data.task.template='{text} :'",
        "data.task.classes=[good,bad]",
        "data.task.verbalizer={good: good, bad: bad}",
        f"data.source.path={tmp_path / 'rows.csv'}",
        "split.num_test=4",
        "prompt=hard_prompt",
        "scoring=batch",
    ]
    at_once = train_one(quickstart(*table, "predict_unlabelled=true", f"paths.runs={tmp_path / 'other'}"))
    train_one(quickstart(*table))
    later = train_one(quickstart(*table, "predict_unlabelled=true"))
    added, expected = (pd.read_parquet(folder.predictions_path("unlabelled")) for folder in (later, at_once))
    pd.testing.assert_frame_equal(added, expected)
    assert record_of(later).calibrations == record_of(at_once).calibrations
