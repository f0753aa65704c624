"""Places that files are kept: odd names, no home, folders that go away, and what a bug leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from softcue.configs import default_cache
from softcue.errors import RunError, logs_of
from softcue.runs.atomic import staging_folder
from softcue.training.resume import LastState
from softcue.training.text_baseline import TextBaseline
from tests.composing import train_config
from tests.own_data.conftest import write_reviews
from tests.running import train_one

Quickstart = Callable[..., DictConfig]
STOPPING = [
    "callbacks=early_stopping",
    "callbacks.progress_bar=null",
    "callbacks.last.every_s=0",
    "split.num_validation=6",
    "trainer.max_epochs=2",
]


def test_two_colons_in_a_path_are_no_file_system(quickstart: Quickstart, tmp_path: Path) -> None:
    runs = tmp_path / "a::b"
    folder = train_one(quickstart(*STOPPING, f"paths.runs='{runs}'"))
    assert folder.is_complete
    assert folder.path.parent == runs
    assert (folder.path / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"SOFTCUE_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/softcue"),
        ({"HOME": "/h"}, "/h/.cache/softcue"),
        ({"SOFTCUE_CACHE": "/c", "HOME": "/h"}, "/c"),
        ({}, "./.cache/softcue"),
    ],
)
def test_the_cache_needs_no_home(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cache: str
) -> None:
    for name in ("SOFTCUE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache() == cache


def test_without_a_home_a_run_uses_the_cache_that_is_set(
    tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOFTCUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert train_one(train_config(*TABLE, f"backbone.path={tiny_backbone}", _reviews(tmp_path))).is_complete
    assert list((tmp_path / "cache" / "encoded").iterdir())


TABLE = [
    *("backbone=local", "data=table", "split=few_shot", "split.num_train=8", "split.num_test=4"),
    *("trainer.max_epochs=1", "callbacks.progress_bar=null"),
]


def _reviews(folder: Path) -> str:
    return f"data.source.path={write_reviews(folder, ('good', 'bad'))}"


@pytest.mark.parametrize("reason", ["Not a directory", "No space left on device"])
def test_a_run_whose_cache_cannot_be_written_trains_without_it(
    tiny_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    cache, write_bytes = tmp_path / "cache", Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.is_relative_to(cache):
            raise OSError(28, reason)
        return write_bytes(path, content)

    if reason == "Not a directory":
        cache.touch()
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    places = [f"paths.cache={cache}", f"paths.runs={tmp_path / 'runs'}", f"backbone.path={tiny_backbone}"]
    assert train_one(train_config(*TABLE, *places, _reviews(tmp_path))).is_complete
    lines = [line for line in caplog.messages if line.startswith("encoded rows are not kept")]
    assert all(f"cannot be written ({reason}): free space there or choose another" in line for line in lines)
    assert len(lines) == 2  # of the training rows and of those that test


def test_a_temporary_folder_that_is_full_or_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = r"temporary files cannot be written \({}\): free space .* TMPDIR=/another/folder"
    with pytest.raises(RunError, match=message.format("No space left on device")), staging_folder():
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match=message.format("No such file or directory")), staging_folder():
        pytest.fail("there is none")


def test_a_run_whose_folder_goes_away_says_so(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_batch = LastState.on_train_batch_start

    def remove(self: LastState, trainer: Any, *rest: Any) -> None:
        if trainer.global_step == 1:
            shutil.rmtree(self.path.parent)
        at_batch(self, trainer, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(LastState, "on_train_batch_start", remove)
        with pytest.raises(
            RunError, match=r"cannot be written: there is no folder .* start the command again"
        ):
            train_one(quickstart("callbacks.last.every_s=0"))
    assert train_one(quickstart("callbacks.last.every_s=0", "trainer.max_epochs=1")).is_complete


def test_the_stack_of_a_bug_is_in_the_runs_log_alone(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("what")

    monkeypatch.setattr(TextBaseline, "fit", fail)
    with pytest.raises(KeyError) as raised:
        train_one(quickstart("prompt=baseline/tfidf"))
    (log,) = tmp_path.rglob("run.log")
    assert logs_of(raised.value) == [str(log)]
    assert log.read_text().count("Traceback (most recent call last)") == 1
    assert "KeyError: 'what'" in log.read_text()
    assert "Traceback" not in caplog.text
