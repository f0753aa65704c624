"""A run that goes on from any step ends in the same bytes as one that was never cut off."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning import Trainer
from omegaconf import DictConfig

from softcue.errors import RunError, TrainingError
from softcue.runs.store import RunFolder
from softcue.train import train, train_jointly
from softcue.training.resume import LastState
from softcue.training.session import Session

Compose = Callable[..., DictConfig]
CASES = {
    "prompt tuning": ["prompt=prompt_tuning"],
    "prefix tuning, validated": ["prompt=prefix_tuning", "split.num_validation=6"],
    "an LSTM with dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.2"],
    "a suffix prompt": ["prompt=prompt_tuning_suffix"],
    "two batches a step": ["prompt=p_tuning", "trainer.accumulate_grad_batches=2", "split.num_train=15"],
    "by length, Adafactor": ["data.order=length_grouped", "optimizer=adafactor", "scheduler=constant"],
    "several tasks": ["prompt=multitask", "data=tweet_topics", "split.balance=equal", "data.batch_size=20"],
    "the best of validation": [
        "callbacks=early_stopping",
        "callbacks.progress_bar=null",
        "callbacks.last.every_s=0",
        "callbacks.early_stopping.monitor=validation/loss",
        "callbacks.early_stopping.mode=min",
        "callbacks.early_stopping.patience=1",
        "split.num_validation=6",
        "trainer.max_epochs=5",
        "optimizer.lr=3",
    ],
}


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a copy of all runs is kept each time that one saves its state."""
    folder, at_batch = tmp_path / "states", LastState.on_train_batch_start

    def saved_and_copied(self: LastState, trainer: Trainer, *rest: Any) -> None:
        at_batch(self, trainer, *rest)
        if self.path.exists():
            step = torch.load(self.path, weights_only=True)["global_step"]
            shutil.copytree(self.path.parents[1], folder / f"{step:03d}", dirs_exist_ok=True)

    monkeypatch.setattr(LastState, "on_train_batch_start", saved_and_copied)
    return folder


def cut_off(*_: object, **__: object) -> None:
    """In place of what is not to be reached, or not to end."""
    raise KeyboardInterrupt


def put_back(state: Path, compose: Compose) -> None:
    """Have all runs as they were."""
    runs = Path(compose().paths.runs)
    shutil.rmtree(runs)
    shutil.copytree(state, runs)


def content(folder: RunFolder) -> dict[str, object]:
    record = folder.record()
    assert record is not None
    assert record.training is not None
    return {
        "prompt": folder.prompt_path.read_bytes(),
        "metrics": record.metrics,
        "curve": (folder.path / "metrics.csv").read_text(),
        "steps": (record.training.steps, record.training.epochs, record.training.best_step),
        "test": [
            pd.read_parquet(path).to_dict() for path in sorted(folder.path.glob("predictions_test*.parquet"))
        ],
    }


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_goes_on_from_any_step_ends_in_the_same_bytes(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    folder = train(compose(*CASES[case]))
    whole = content(folder)
    monkeypatch.undo()
    kept = sorted(states.iterdir())
    assert len(kept) >= 4
    # Of 3 batches an epoch: amid the first, at the start of the second, amid it, and the last.
    for state in kept if case == "prompt tuning" else (kept[1], kept[3], kept[4], kept[-1]):
        put_back(state, compose)
        train(compose(*CASES[case]))
        assert content(folder) == whole, state.name
        record = folder.record()
        assert record is not None
        assert record.training is not None
        assert record.training.resumes == 1


def test_the_bytes_do_not_depend_on_the_memory_for_contexts_or_on_earlier_runs(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ["prompt=prompt_tuning_suffix"]
    folder = train(compose(*case, "cache.budget_gb=0"))
    whole = content(folder)
    monkeypatch.undo()
    put_back(sorted(states.iterdir())[2], compose)
    train(compose(*case, "seed=1"))
    train(compose(*case, "cache.budget_gb=0.0001"))
    assert content(folder) == whole


def test_runs_that_train_together_go_on_together(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ["prompt=p_tuning_lstm", "prompt.method.dropout=0.2", "joint.seed=[0,1]"]
    whole = [content(folder) for folder in train_jointly(compose(*case))]
    monkeypatch.undo()
    kept = sorted(states.iterdir())
    for state in (kept[1], kept[3]):  # amid the first epoch, and at the start of the second
        put_back(state, compose)
        folders = train_jointly(compose(*case))
        assert [content(folder) for folder in folders] == whole, state.name
        records = [folder.record() for folder in folders]
        assert [record.training.resumes for record in records if record and record.training] == [1, 1]
        assert not list(folders[0].path.parent.glob("*/joint.ckpt"))


def test_a_run_that_has_diverged_among_others_stays_so(compose: Compose, states: Path) -> None:
    case = ["prompt=prefix_tuning", "scheduler=constant", "joint.learning_rate=[0.01,3e37]"]

    def ended() -> tuple[dict[str, object], str]:
        with pytest.raises(TrainingError, match="no longer finite") as caught:
            train_jointly(compose(*case))
        folders = [RunFolder(runs, path.name) for path in runs.iterdir()]
        (complete,) = (folder for folder in folders if folder.is_complete)
        return content(complete), str(caught.value)

    runs = Path(compose().paths.runs)
    whole = ended()
    put_back(sorted(states.iterdir())[-1], compose)
    assert ended() == whole


def test_runs_that_trained_together_and_were_cut_off_while_scored_do_not_train_again(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Session, "score", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_jointly(compose("joint.seed=[0,1]"))
    monkeypatch.setattr(Trainer, "fit", cut_off)
    assert all(folder.is_complete for folder in train_jointly(compose("joint.seed=[0,1]")))


def test_a_run_alone_starts_anew_from_the_end_of_a_pass_that_no_record_tells_of(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Session, "trained", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train_jointly(compose("joint.seed=[0,1]"))
    alone = content(train(compose("seed=0")))
    assert "last.ckpt holds the end of a packed run" in caplog.text
    assert alone == content(train(compose("seed=0", f"paths.runs={tmp_path / 'other'}")))


def test_a_pass_does_not_go_on_with_other_runs(
    compose: Compose, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_jointly(compose("joint.seed=[0,1]"))
    put_back(sorted(states.iterdir())[2], compose)
    folders = train_jointly(compose("joint.seed=[0,2]"))
    assert "joint.ckpt is of other runs (prompt_tuning-" in caplog.text
    records = [folder.record() for folder in folders]
    assert [record.training.resumes for record in records if record and record.training] == [0, 0]


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of two cores, both at work."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_run_goes_on_with_as_many_threads_as_it_began_with(
    compose: Compose, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = ["prompt=p_tuning_lstm", 'prompt.layout="[soft:20]{input}"']
    folder = train(compose(*case))
    whole, state = content(folder), sorted(states.iterdir())[2]
    torch.set_num_threads(1)

    def go_on(*overrides: str) -> int:
        put_back(state, compose)
        record = train(compose(*case, *overrides)).record()
        assert record is not None
        return record.hardware.threads

    assert go_on() == 2
    assert torch.get_num_threads() == 1
    assert content(folder) == whole
    assert "threads=" not in caplog.text
    assert go_on("threads=1") == 1
    assert "with threads=2 and goes on" in caplog.text


def test_a_run_cut_off_while_scoring_does_not_train_again(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Session, "score", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train(compose())
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", cut_off)
        resumed = content(train(compose()))
    assert resumed == content(train(compose(f"paths.runs={tmp_path / 'other'}")))


def test_a_state_that_cannot_be_read_is_named_and_training_begins_anew(
    compose: Compose, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train(compose())
    whole = content(folder)
    folder.record_path.unlink()
    folder.checkpoint_path.write_bytes(folder.checkpoint_path.read_bytes()[:1000])
    train(compose())
    assert content(folder) == whole
    assert "last.ckpt cannot be read" in caplog.text


def test_a_disk_that_is_full_stops_the_run_with_a_line_and_leaves_the_state_before(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[bytes] = []

    def until_full(self: Trainer, path: Path) -> None:
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_checkpoint(self, path)
        saved.append(path.read_bytes())

    save_checkpoint = Trainer.save_checkpoint
    monkeypatch.setattr(Trainer, "save_checkpoint", until_full)
    settings = compose()
    with pytest.raises(
        RunError, match=r"last.ckpt cannot be written \(No space left on device\): free space"
    ):
        train(settings)
    folder = Path(settings.paths.run)
    assert (folder / "last.ckpt").read_bytes() == saved[2]
    assert not list(folder.glob(".*.tmp"))
    assert '"status": "failed"' in (folder / "record.json").read_text()
