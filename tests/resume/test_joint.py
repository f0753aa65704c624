"""Joint training against the same runs alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import DictConfig

from softcue.errors import ConfigError, TrainingError
from softcue.execute import train
from softcue.formats.prompt_file import load_bank
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder, list_records
from tests.cases import slow_but
from tests.running import train_one

Compose = Callable[..., DictConfig]
CASES = {
    "prefixes": ["prompt=prefix_tuning"],
    "a suffix": ["prompt=prompt_tuning_suffix"],
    "late": ["prompt=late"],
    "a noisy router": ["prompt=smop"],
    "offsets of words": ["prompt=dept"],
    "an LSTM with dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.3"],
    "two batches a step": ["split.num_train=20", "trainer.accumulate_grad_batches=2"],
    "validated": ["split.num_validation=6", "objective=choice"],
    "several tasks": ["prompt=multitask", "data=tweet_topics", "split.balance=equal", "data.batch_size=20"],
    "one prompt for several tasks": ["data=tweet_topics", "split.balance=equal", "data.batch_size=20"],
}
QUICK = ("a suffix",)


def record_of(folder: RunFolder) -> RunRecord:
    record = folder.record()
    assert record is not None
    return record


def expect_equal(joint: RunFolder, alone: RunFolder) -> None:
    """The same run: its id, prompt, curve and scores."""
    assert joint.path.name == alone.path.name
    ours, theirs = load_bank(joint.prompt_path)[0].tensors(), load_bank(alone.prompt_path)[0].tensors()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    curves = [pd.read_csv(folder.path / "metrics.csv") for folder in (joint, alone)]
    pd.testing.assert_frame_equal(curves[0], curves[1], rtol=1e-4, atol=1e-5)
    for name, value in record_of(alone).metrics["test"].items():
        assert record_of(joint).metrics["test"][name] == pytest.approx(value, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_each_run_equals_itself_alone(compose: Compose, tmp_path: Path, case: str) -> None:
    """Seeds differ in rows, order, start and dropout."""
    # AdamW's first steps follow a gradient's sign: near zero, rounding changes the step.
    common = [*CASES[case], "optimizer.lr=0.001"]
    for seed, folder in enumerate(train(compose(*common, "joint.seed=[0,1]"))):
        expect_equal(folder, train_one(compose(*common, f"seed={seed}", f"paths.runs={tmp_path / 'alone'}")))
        training = record_of(folder).training
        assert training is not None
        assert training.joint == 2


@pytest.mark.slow
def test_distillation_equals_itself_alone(compose: Compose, tmp_path: Path) -> None:
    teacher = train_one(compose("seed=7"))
    case = [
        "objective=distillation",
        "objective.hidden=1.0",
        f"objective.teachers=[{teacher.path}]",
        "optimizer.lr=0.001",
    ]
    for seed, folder in enumerate(train(compose(*case, "joint.seed=[0,1]"))):
        expect_equal(folder, train_one(compose(*case, f"seed={seed}", f"paths.runs={tmp_path / 'alone'}")))


def test_a_baseline_trains_with_every_seed(compose: Compose) -> None:
    records = [record_of(folder) for folder in train(compose("prompt=baseline/tfidf", "joint.seed=[0,1]"))]
    assert [(record.seed, record.status) for record in records] == [(0, "complete"), (1, "complete")]


def test_complete_runs_do_not_run_again(compose: Compose) -> None:
    first = train(compose("joint.learning_rate=[0.01,0.001]"))
    written = [folder.record_path.stat().st_mtime_ns for folder in first]
    again = train(compose("joint.learning_rate=[0.01,0.001,0.0001]"))
    assert [folder.path for folder in again[:2]] == [folder.path for folder in first]
    assert [folder.record_path.stat().st_mtime_ns for folder in again[:2]] == written
    assert again[2].is_complete


def test_a_run_that_is_named_twice_trains_once(compose: Compose) -> None:
    (folder,) = train(compose("joint.seed=[0,0]"))
    assert folder.is_complete


def test_a_run_that_diverges_fails_alone(compose: Compose) -> None:
    config = compose("prompt=prefix_tuning", "scheduler=constant", "joint.learning_rate=[0.01,3e37]")
    with pytest.raises(TrainingError, match=r"no longer finite.*lower prompt.learning_rate"):
        train(config)
    records = list_records(Path(config.paths.runs)).records
    assert {record.settings["optimizer"]["lr"]: record.status for record in records} == {
        0.01: "complete",
        3e37: "failed",
    }


def test_if_all_diverge_each_record_has_its_own_error(compose: Compose) -> None:
    config = compose("prompt=prefix_tuning", "scheduler=constant", "joint.learning_rate=[2e37,3e37]")
    with pytest.raises(TrainingError, match=r"2e\+37.*3e\+37"):
        train(config)
    for record in list_records(Path(config.paths.runs)).records:
        assert record.error is not None
        assert f"learning rate {record.settings['optimizer']['lr']:g};" in record.error.message


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["trainer=ddp", "trainer.accelerator=cpu"],
            r"one process, and trainer \(.*'devices': 2.*\) makes 2",
        ),
        (["callbacks=early_stopping", "split.num_validation=6"], "EarlyStopping.*Use callbacks=default"),
    ],
    ids=["processes", "early stopping"],
)
def test_joint_training_is_refused_before_it_starts(
    compose: Compose, overrides: list[str], message: str
) -> None:
    config = compose("joint.seed=[0,1]", *overrides)
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not list(Path(config.paths.runs).glob("*/record.json"))
