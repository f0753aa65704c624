"""`softcue-predict` as a user runs it: real processes, with a prompt for a tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.predict.command import predict_table
from softcue.predict.settings import PredictSettings
from softcue.trained import load
from tests.composing import train_config
from tests.entry_points import run_script
from tests.integration.conftest import CACHE
from tests.running import train_one
from tests.tiny_backbone import save_tiny_backbone

TWEETS = [
    "@united my bag is lost again",
    'thanks @JetBlue, "lovely"\nflight!',
    "@AmericanAir hello ?",
    "@SouthwestAir 3 hours late and nobody says why 😡",
]
COMMAND = [sys.executable, "-m", "softcue.predict"]
ENVIRONMENT = {**os.environ, "SOFTCUE_CACHE": str(CACHE)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt trained for two steps."""
    backbone = save_tiny_backbone(tmp_path_factory.mktemp("backbone"), CACHE)
    settings = train_config(
        "experiment=quickstart",
        "debug=fast",
        "backbone=local",
        f"backbone.path={backbone}",
        "backbone.name=tiny",
        "split.num_train=16",
        "split.num_test=4",
        "data.max_length=48",
        "trainer.enable_progress_bar=false",
        "callbacks.progress_bar=null",
        f"paths.runs={tmp_path_factory.mktemp('runs')}",
        f"paths.cache={CACHE}",
    )
    return train_one(settings).path


def softcue_predict(
    run: Path, *arguments: str, cwd: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, f"run={run}", *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def tweets_csv(path: Path, num_rows: int) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["when", "Tweet text", "ID"])
        writer.writerows((f"day {row}", f"{TWEETS[row % 4]} {row}", row + 50) for row in range(num_rows))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in the test's own folder, with the cache that outlives the session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def predict_here(run: Path, *arguments: str) -> None:
    """The command without a process of its own, which would import torch for some seconds."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        settings = compose(config_name="predict", overrides=[f"run={run}", *arguments])
    predict_table(PredictSettings.of(OmegaConf.to_container(settings, throw_on_missing=True)))


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("here")
def test_a_file_gets_what_the_prompt_predicts(run: Path, tmp_path: Path) -> None:
    table = tweets_csv(tmp_path / "tweets.csv", 6)
    predict_here(run, "input=tweets.csv", "output=out.csv")
    before, after = rows_of(table.read_text()), rows_of((tmp_path / "out.csv").read_text())
    assert list(after[0]) == ["when", "Tweet text", "ID", "predicted", "p(complaint)", "p(no complaint)"]
    expected = load(run).predict([row["Tweet text"] for row in before])
    for given, got, prediction in zip(before, after, expected, strict=True):
        assert {name: got[name] for name in given} == given
        assert got["predicted"] == prediction.label
        for name, probability in prediction.probabilities.items():
            assert float(got[f"p({name})"]) == pytest.approx(probability, rel=1e-4)
    assert names(tmp_path) == {"tweets.csv", "out.csv"}


def started(run: Path, *arguments: str, cwd: Path, after_rows: int) -> subprocess.Popen[bytes]:
    """Start the command, and return once so many rows of out.csv are safe."""
    note = cwd / "out.csv.part.json"
    process = subprocess.Popen([*COMMAND, f"run={run}", *arguments], cwd=cwd, env=ENVIRONMENT)
    while not note.exists() or json.loads(note.read_text())["read"]["rows"] < after_rows:
        assert process.poll() is None, "the command ended too early"
        time.sleep(0.01)
    return process


@pytest.mark.usefixtures("here")
@pytest.mark.slow
def test_after_kill_9_the_same_command_ends_in_the_same_bytes(run: Path, tmp_path: Path) -> None:
    tweets_csv(tmp_path / "tweets.csv", 200)
    settings = ("input=tweets.csv", "chunk_rows=4", "batch_size=4")
    process = started(run, *settings, "output=out.csv", cwd=tmp_path, after_rows=8)
    process.send_signal(signal.SIGSTOP)
    second = softcue_predict(run, *settings, "output=out.csv", "overwrite=true", cwd=tmp_path)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert second.returncode == 1
    assert f"out.csv is being written by another process (process {process.pid} on " in second.stderr
    assert not (tmp_path / "out.csv").exists()
    rows_done = json.loads((tmp_path / "out.csv.part.json").read_text())["read"]["rows"]
    assert 8 <= rows_done < 200

    for output in ("output=out.csv", "output=whole.csv"):
        predict_here(run, *settings, output)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert names(tmp_path) == {"tweets.csv", "whole.csv", "out.csv"}


@pytest.mark.slow
def test_stdin_goes_to_stdout_and_reports_to_stderr(run: Path, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"body": text, "n": number}) + "\n" for number, text in enumerate(TWEETS))
    done = softcue_predict(run, "format=jsonl", "column=body", cwd=tmp_path, stdin=lines)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["body"], row["n"]) for row in answers] == [
        (text, number) for number, text in enumerate(TWEETS)
    ]
    assert list(answers[0]) == ["body", "n", "predicted", "p(complaint)", "p(no complaint)"]
    assert done.stderr.splitlines()[-1] == "stdout: 4 rows predicted, 0 skipped"
    assert names(tmp_path) == set()


@pytest.mark.slow
def test_a_reader_that_closes_the_pipe_ends_it_in_silence(run: Path, tmp_path: Path) -> None:
    tweets_csv(tmp_path / "tweets.csv", 2000)
    command = [*COMMAND, f"run={run}", "input=tweets.csv", "chunk_rows=4"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        printed = process.stderr.read()
    assert process.returncode == 141
    assert "BrokenPipe" not in printed
    assert "rows predicted" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=gone.csv"], "gone.csv is not there; check the path and the folder you run from ("),
        (["batch_size=0"], "batch_size is 0; it should be greater than 0."),
        (["input=twice.csv"], r"twice.csv has several columns '\x1b[31m'; rename all but one."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "twice.csv").write_text("\x1b[31m,\x1b[31m\n")
    done = softcue_predict(run, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {message}")


def test_help_teaches_the_command_by_examples(tmp_path: Path) -> None:
    shown = run_script("softcue-predict", "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert sum("softcue-predict run=" in line for line in shown.stdout.splitlines()) == 4
    assert "on_bad_row: fail" in shown.stdout
    assert "escape_formulas: false" in shown.stdout
    assert names(tmp_path) == set()
