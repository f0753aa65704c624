"""An interrupted run that resumes from any step ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning import Trainer
from omegaconf import DictConfig

from softcue.errors import RunError, TrainingError
from softcue.execute import train
from softcue.runs.atomic import atomic_path
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.training.checkpoints import SealedCheckpoints
from softcue.training.recorder import Recorder
from softcue.training.resume import LastState, resumable
from softcue.training.session import Session
from tests.cases import slow_but
from tests.running import train_one

Compose = Callable[..., DictConfig]
CASES = {
    "prompt tuning": ["prompt=prompt_tuning"],
    "prefix tuning, validated": ["prompt=prefix_tuning", "split.num_validation=6"],
    "an LSTM with dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.2"],
    "a suffix prompt": ["prompt=prompt_tuning_suffix"],
    "a noisy router": ["prompt=smop", "split.num_validation=6"],
    "a late prompt": ["prompt=late", "split.num_validation=6"],
    "two batches a step": ["prompt=p_tuning", "trainer.accumulate_grad_batches=2", "split.num_train=15"],
    "by length, Adafactor": ["data.order=length_grouped", "optimizer=adafactor", "scheduler=constant"],
    "several tasks": ["prompt=multitask", "data=tweet_topics", "split.balance=equal", "data.batch_size=20"],
    "projected, with labels in the prompt": [
        *("prompt=cpt", "prompt.layout='[soft:40]{input}'", "prompt.method.text_radius=0.01"),
    ],
    "texts": ["data=airline_summaries", "split.num_validation=6"],
    "an encoder-decoder, both inputs": ["prompt=prompt_tuning", "prompt.submodules=2"],
    "an encoder-decoder's texts": ["prompt=prefix_tuning", "data=airline_summaries"],
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
QUICK = ("an LSTM with dropout", "a suffix prompt", "an encoder-decoder, both inputs")
JOINT = {
    "an LSTM with dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.2", "joint.seed=[0,1]"],
    "validated": ["joint.learning_rate=[0.1,0.01]", "split.num_validation=6"],
}


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of all runs as they were each time that one saved its state."""
    folder, at_batch = tmp_path / "states", LastState.on_train_batch_start

    def save_and_copy(self: LastState, trainer: Trainer, *rest: Any) -> None:
        at_batch(self, trainer, *rest)
        if self.path.exists():
            step = torch.load(self.path, weights_only=True)["global_step"]
            shutil.copytree(self.path.parents[1], folder / f"{step:03d}", dirs_exist_ok=True)

    monkeypatch.setattr(LastState, "on_train_batch_start", save_and_copy)
    return folder


def interrupt(*_: object, **__: object) -> None:
    """Stand in for a function during which, or instead of which, the process is interrupted."""
    raise KeyboardInterrupt


def interrupted_in(owner: type, name: str, config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until this method is called, and stop there."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(config)


def put_back(state: Path, compose: Compose) -> None:
    """Replace all runs by those of an earlier state."""
    runs = Path(compose().paths.runs)
    shutil.rmtree(runs)
    shutil.copytree(state, runs)


def record_of(folder: RunFolder) -> RunRecord:
    record = folder.record()
    assert record is not None
    return record


def content(folder: RunFolder) -> dict[str, object]:
    record = record_of(folder)
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


def resumes(folders: Sequence[RunFolder]) -> list[int]:
    trainings = [record_of(folder).training for folder in folders]
    return [training.resumes for training in trainings if training is not None]


@pytest.mark.parametrize("case", slow_but(QUICK, CASES))
def test_a_run_that_resumes_from_any_step_ends_with_the_same_bytes(
    compose: Compose,
    states: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    tiny_encoder_decoder: Path,
) -> None:
    if "an encoder-decoder" in case:
        compose = partial(compose, f"backbone.path={tiny_encoder_decoder}", "backbone.name=t5")
    folder = train_one(compose(*CASES[case]))
    whole = content(folder)
    monkeypatch.undo()
    kept = sorted(states.iterdir())
    assert len(kept) >= 4
    # Within the first epoch, at the start of the second (after 3 batches), and the last state.
    for state in (kept[1], kept[3], kept[-1]):
        put_back(state, compose)
        train(compose(*CASES[case]))
        assert content(folder) == whole, state.name
        assert resumes([folder]) == [1]


@pytest.mark.parametrize("case", slow_but(["an LSTM with dropout"], JOINT))
def test_runs_that_train_jointly_resume_jointly(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    whole = [content(folder) for folder in train(compose(*JOINT[case]))]
    monkeypatch.undo()
    kept = sorted(states.iterdir())
    for state in (kept[1], kept[3]):  # within the first epoch, and at the start of the second
        put_back(state, compose)
        folders = train(compose(*JOINT[case]))
        assert [content(folder) for folder in folders] == whole, state.name
        assert resumes(folders) == [1, 1]


def test_the_bytes_do_not_depend_on_the_memory_for_contexts_or_on_earlier_runs(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ["prompt=prompt_tuning_suffix"]
    folder = train_one(compose(*case, "cache.budget_gb=0"))
    whole = content(folder)
    monkeypatch.undo()
    put_back(sorted(states.iterdir())[2], compose)
    train(compose(*case, "seed=1"))
    train(compose(*case, "cache.budget_gb=0.0001"))
    assert content(folder) == whole


@pytest.mark.slow
def test_a_run_that_has_diverged_stays_so_when_the_others_resume(compose: Compose, states: Path) -> None:
    case = ["prompt=prefix_tuning", "scheduler=constant", "joint.learning_rate=[0.01,3e37]"]

    def result() -> tuple[dict[str, object], str]:
        with pytest.raises(TrainingError, match="no longer finite") as caught:
            train(compose(*case))
        folders = [RunFolder(runs, path.name) for path in runs.iterdir()]
        (complete,) = (folder for folder in folders if folder.is_complete)
        return content(complete), str(caught.value)

    runs = Path(compose().paths.runs)
    whole = result()
    put_back(sorted(states.iterdir())[-1], compose)
    assert result() == whole


@pytest.mark.parametrize("seeds", slow_but(["seed=0"], ["seed=0", "joint.seed=[0,1]"]))
def test_runs_interrupted_while_scored_do_not_train_again(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: str
) -> None:
    interrupted_in(Session, "score", compose(seeds), monkeypatch)
    # Once more before anything is scored, as a process that is killed while it loads the model.
    interrupted_in(Session, "set_up", compose(seeds), monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", interrupt)
        resumed = [content(folder) for folder in train(compose(seeds))]
    other = train(compose(seeds, f"paths.runs={tmp_path / 'other'}"))
    assert resumed == [content(folder) for folder in other]


@pytest.mark.slow
def test_a_run_does_not_resume_from_the_state_of_other_runs(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(compose("joint.seed=[0,1]"))
    monkeypatch.undo()
    for overrides in (["seed=0"], ["joint.seed=[0,2]"]):
        caplog.clear()
        put_back(sorted(states.iterdir())[2], compose)
        folders = train(compose(*overrides))
        assert "last.ckpt is the state of other runs (prompt_tuning-" in caplog.text
        assert set(resumes(folders)) == {0}


def test_a_complete_run_keeps_no_state_to_resume_from(compose: Compose) -> None:
    folders = train(compose("joint.seed=[0,1]"))
    assert all(folder.is_complete and not folder.checkpoint_path.exists() for folder in folders)


def test_an_interruption_before_the_record_of_training_costs_the_steps_since_the_last_state(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_in(Recorder, "record_training", compose(), monkeypatch)
    folder = train_one(compose())
    assert resumes([folder]) == [1]
    assert content(folder) == content(train_one(compose(f"paths.runs={tmp_path / 'other'}")))


def test_a_checkpoint_holds_the_prompt_and_never_the_backbone(compose: Compose, states: Path) -> None:
    folder = train_one(compose("prompt=p_tuning", "trainer.max_epochs=1"))
    state = sorted(states.iterdir())[0] / folder.path.name / "last.ckpt"
    names = torch.load(state, weights_only=True)["state_dict"].keys()
    assert {name.rpartition("prompt.")[2] for name in names if "train_loss" not in name} == {
        "input_PD",
        *(f"mlp.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")),
    }


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine with two cores, both in use."""
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.slow
def test_a_run_resumes_with_as_many_threads_as_it_began_with(
    compose: Compose, states: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = ["prompt=p_tuning_lstm", 'prompt.layout="[soft:20]{input}"']
    folder = train_one(compose(*case))
    whole, state = content(folder), sorted(states.iterdir())[2]
    torch.set_num_threads(1)

    def threads_of_resumed(*overrides: str) -> int:
        put_back(state, compose)
        return record_of(train_one(compose(*case, *overrides))).hardware.threads

    assert threads_of_resumed() == 2
    assert torch.get_num_threads() == 1
    assert content(folder) == whole
    assert "threads=" not in caplog.text
    assert threads_of_resumed("threads=1") == 1
    assert "with threads=2 and resumes" in caplog.text


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:1000],
    "a bit of a weight": lambda content: content[:2000] + bytes([content[2000] ^ 1]) + content[2001:],
    "a bit of the digest": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "another program's": lambda content: content[:-64],
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_named_and_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path, run_ids = tmp_path / "last.ckpt", ["prompt_tuning-0123456789ab"]
    state = {"members": {"run_ids": run_ids}, "callbacks": {}, "global_step": 3, "x": torch.ones(999)}
    SealedCheckpoints().save_checkpoint(state, path)
    assert resumable(path, run_ids) == path
    content = DAMAGE[damage](path.read_bytes())
    path.write_bytes(content)
    assert resumable(path, run_ids) is None
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"{path} is damaged or another program's")
    assert line.endswith("It is now last.ckpt.set_aside, and training starts from the beginning.")
    assert not path.exists()
    assert (tmp_path / "last.ckpt.set_aside").read_bytes() == content


@pytest.mark.slow
def test_a_run_whose_best_checkpoint_is_damaged_trains_again(
    compose: Compose, states: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES["the best of validation"]
    folder = train_one(compose(*case))
    whole = content(folder)
    monkeypatch.undo()
    put_back(sorted(states.iterdir())[-1], compose)
    (folder.path / "best.ckpt").write_bytes(b"damaged")
    train(compose(*case))
    assert f"{folder.path / 'best.ckpt'} is damaged" in caplog.text
    assert content(folder) == whole


def test_a_full_disk_stops_the_run_with_one_line_and_the_earlier_state_remains(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[bytes] = []

    def until_full(path: Path, content: bytes) -> None:
        with atomic_path(path) as temporary:
            if len(saved) == 3:
                temporary.write_bytes(b"half")
                raise OSError(28, "No space left on device")
            temporary.write_bytes(content)
        saved.append(content)

    monkeypatch.setattr("softcue.training.checkpoints.write_atomic", until_full)
    config = compose()
    with pytest.raises(
        RunError, match=r"last.ckpt cannot be written \(No space left on device\): free space"
    ):
        train(config)
    (folder,) = Path(config.paths.runs).iterdir()
    assert (folder / "last.ckpt").read_bytes() == saved[2]
    assert not list(folder.glob(".*.tmp"))
    assert '"status": "failed"' in (folder / "record.json").read_text()
