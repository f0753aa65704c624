"""`softcue-predict` as a user runs it: real processes, with a real run."""

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

from softcue.configs import CONFIG_PATH
from softcue.errors import DataError, RunError
from softcue.predict.__main__ import predict_table
from softcue.trained import load
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one

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
    settings = train_config(
        "experiment=quickstart",
        "debug=fast",
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


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything runs in the test's own folder, with the model that outlives the session."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


def predict_here(run: Path, *arguments: str) -> None:
    """The command without a process of its own, which would import torch for some seconds."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        settings = compose(config_name="predict", overrides=[f"run={run}", *arguments])
    predict_table(settings)


def tweets_csv(path: Path, num_rows: int, *, column: str = "Tweet text") -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["when", column, "ID"])
        writer.writerows((f"day {row}", f"{TWEETS[row % 4]} {row}", row + 50) for row in range(num_rows))
    return path


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on which a command failed; before it may stand the model's own progress bar."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_file_keeps_its_columns_and_gets_what_the_prompt_says(run: Path, tmp_path: Path) -> None:
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
    assert {path.name for path in tmp_path.iterdir()} == {"tweets.csv", "out.csv"}


def test_an_output_is_replaced_only_if_asked_for(run: Path, tmp_path: Path) -> None:
    tweets_csv(tmp_path / "tweets.csv", 2)
    (tmp_path / "out.csv").write_text("precious")
    with pytest.raises(RunError, match=r"out\.csv exists; choose another .* overwrite=true"):
        predict_here(run, "input=tweets.csv", "output=out.csv")
    assert (tmp_path / "out.csv").read_text() == "precious"
    predict_here(run, "input=tweets.csv", "output=out.csv", "overwrite=true")
    assert len(rows_of((tmp_path / "out.csv").read_text())) == 2


def killed(run: Path, *arguments: str, cwd: Path, after_rows: int) -> None:
    """Start the command, and end it by SIGKILL once so many rows are safe."""
    note = cwd / "out.csv.part.json"
    process = subprocess.Popen([*COMMAND, f"run={run}", *arguments], cwd=cwd, env=ENVIRONMENT)
    while not note.exists() or json.loads(note.read_text())["read"]["rows"] < after_rows:
        assert process.poll() is None, "the command ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (cwd / "out.csv").exists()


def test_after_kill_9_the_same_command_ends_in_the_same_bytes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tweets_csv(tmp_path / "tweets.csv", 60)
    settings = ("input=tweets.csv", "chunk_rows=4", "batch_size=4")
    whole = softcue_predict(run, *settings, "output=whole.csv", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed(run, *settings, "output=out.csv", cwd=tmp_path, after_rows=8)

    predict_here(run, *settings, "output=out.csv", "dry=true")
    rows_done = int(capsys.readouterr().err.splitlines()[-1].removeprefix("rows done before: "))
    assert 8 <= rows_done < 60

    done = softcue_predict(run, *settings, "output=out.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"tweets.csv", "whole.csv", "out.csv"}


def test_a_partial_output_goes_on_only_for_the_rows_it_was_made_of(run: Path, tmp_path: Path) -> None:
    table = tweets_csv(tmp_path / "tweets.csv", 6)
    good = table.read_text()
    table.write_text(good.replace(",54", ",54,too many"))
    settings = ("input=tweets.csv", "output=out.csv", "chunk_rows=2")
    with pytest.raises(DataError, match=r"tweets\.csv line 7 has 4 cells"):
        predict_here(run, *settings)

    with pytest.raises(RunError, match=r"out\.csv\.part was left .* its column is '', and here it is 'when'"):
        predict_here(run, *settings, "column=when")
    table.write_text(good.replace("lost", "here"))
    with pytest.raises(
        RunError, match=r"the rows of tweets\.csv that it holds have changed\. .*overwrite=true"
    ):
        predict_here(run, *settings)
    predict_here(run, *settings, "overwrite=true")
    answers = rows_of((tmp_path / "out.csv").read_text())
    assert [row["ID"] for row in answers] == ["50", "51", "52", "53", "54", "55"]
    assert "here" in answers[0]["Tweet text"]


def test_stdin_goes_to_stdout_and_words_to_stderr(run: Path, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"body": text, "n": number}) + "\n" for number, text in enumerate(TWEETS))
    done = softcue_predict(run, "format=jsonl", "column=body", cwd=tmp_path, stdin=lines)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["body"], row["n"]) for row in answers] == [
        (text, number) for number, text in enumerate(TWEETS)
    ]
    assert list(answers[0]) == ["body", "n", "predicted", "p(complaint)", "p(no complaint)"]
    assert done.stderr.splitlines()[-1] == "stdout: 4 rows predicted, 0 skipped"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_enough_ends_it_without_a_word(run: Path, tmp_path: Path) -> None:
    tweets_csv(tmp_path / "tweets.csv", 60)
    command = [*COMMAND, f"run={run}", "input=tweets.csv", "chunk_rows=4"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        words = process.stderr.read()
    assert process.returncode == 141
    assert "BrokenPipe" not in words
    assert "rows predicted" not in words


def test_a_bad_row_is_named_by_its_line_and_fails_or_is_skipped(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tweets.csv").write_bytes(
        b'n,Tweet text\n1,"two\nlines"\n2,\n3,fine\n4,too,many\n5,"on two\nlines: \xff"\n6,fine\n'
    )
    failed = softcue_predict(run, "input=tweets.csv", "output=out.csv", cwd=tmp_path)
    assert error_of(failed) == (
        "error: tweets.csv line 4 has no text in 'Tweet text'; mend it and start again, or leave such rows "
        "out with on_bad_row=skip."
    )
    assert [row["n"] for row in rows_of((tmp_path / "out.csv.part").read_text())] == ["1"]

    predict_here(run, "input=tweets.csv", "output=out.csv", "on_bad_row=skip")
    assert capsys.readouterr().err.splitlines()[-4:] == [
        "skipped: tweets.csv line 4 has no text in 'Tweet text'",
        "skipped: tweets.csv line 6 has 3 cells where the header has 2",
        "skipped: tweets.csv line 7 is not UTF-8",
        "out.csv: 3 rows predicted, 3 skipped",
    ]
    assert [row["n"] for row in rows_of((tmp_path / "out.csv").read_text())] == ["1", "3", "6"]


def test_raft_gets_its_submission(run: Path, tmp_path: Path) -> None:
    table = tweets_csv(tmp_path / "test_unlabeled.csv", 6)
    table.write_text(table.read_text() + "day 6,,56\n")
    settings = ("input=test_unlabeled.csv", "output=out.csv", "format=raft")
    predict_here(run, *settings)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "ID,Label"
    ids, labels = zip(*(line.split(",") for line in lines[1:]), strict=True)
    assert ids == ("50", "51", "52", "53", "54", "55", "56")
    assert set(labels) <= {"complaint", "no complaint"}

    table.write_text(table.read_text().replace("ID", "number"))
    with pytest.raises(DataError, match="format=raft writes the ids in column 'ID', and test_unlabeled"):
        predict_here(run, *settings, "overwrite=true")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input=gone.csv"], "gone.csv is not there; check input and the folder you run from."),
        (["input=t.xls"], "input is t.xls; its suffix must be one of .csv, .tsv, .jsonl, .parquet. Convert"),
        (["output=t.parquet"], "output is t.parquet; its suffix must be one of .csv, .tsv, .jsonl. Convert"),
        (["format=html"], "format is 'html'; choose one of csv, tsv, jsonl, raft."),
        (["format=raft", "output=t.tsv"], "output is t.tsv, and format=raft writes CSV; name it *.csv."),
        (
            ["format=csv", "input=a.csv", "output=b.csv"],
            "format=csv says what stdin or stdout holds, and nei",
        ),
        (["on_bad_row=ignore"], "on_bad_row is 'ignore'; choose fail or skip."),
        (["batch_size=0"], "batch_size is 0; give a whole number from 1 up."),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    run: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = softcue_predict(run, *arguments, cwd=tmp_path)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert error_of(done).startswith(f"error: {message}")


def test_help_teaches_the_command_by_examples(tmp_path: Path) -> None:
    shown = subprocess.run([*COMMAND, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert sum("softcue-predict run=" in line for line in shown.stdout.splitlines()) == 4
    assert "on_bad_row: fail" in shown.stdout
    assert list(tmp_path.iterdir()) == []
