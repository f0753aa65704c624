"""A sweep runs each missing job once, continues after failures, and reports the results."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins import basic_launcher

from softcue.errors import ConfigError, RunBusyError
from softcue.formats.prompt_file import load_bank
from softcue.runs.record import Failure
from softcue.runs.store import RunFolder, list_records
from softcue.sweep.grid import combinations
from tests.composing import train_config
from tests.running import train_one
from tests.sweep.conftest import Sweep, start

BASELINE = ["experiment=quickstart", "prompt=baseline/tfidf", "split.num_test=20"]


def written(runs: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*/record.json")}


def test_complete_jobs_are_skipped_and_failed_ones_are_run_again(sweep: Sweep, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    code, printed = sweep(*BASELINE, "split.num_train=50,99999,40")
    assert code == 1
    assert "1 of 3 jobs are not complete, the first being job 1 (split.num_train=99999)" in printed
    records = list_records(runs).records
    assert sorted(record.status for record in records) == ["complete", "complete", "failed"]
    (failed,) = (record for record in records if record.error)
    assert failed.error is not None
    assert "split.num_train is 99999" in failed.error.message
    first = written(runs)

    code, printed = sweep(*BASELINE, "split.num_train=50,40,30")
    assert code == 0
    assert "2 of 3 jobs are complete" in printed
    again = written(runs)
    assert {name: again[name] for name in first} == first
    assert len(again) == 4

    code, printed = sweep(*BASELINE, "split.num_train=50,99999,40")
    assert code == 1
    changed = {name for name, when in written(runs).items() if again.get(name) != when}
    assert changed == {failed.run_id}


@pytest.mark.slow
def test_an_unreadable_record_is_reported_once_and_all_other_jobs_run(sweep: Sweep, tmp_path: Path) -> None:
    sweep(*BASELINE, "seed=0")
    (broken,) = (tmp_path / "runs").glob("*/record.json")
    broken.write_text(broken.read_text()[:-9])
    code, printed = sweep(*BASELINE, "seed=0,1")
    assert code == 1
    assert printed.count("error: ") == 2  # of the job, and of the sweep
    assert f"{broken.relative_to(tmp_path)} cannot be read (not a run record: JSONDecodeError" in printed
    assert "1 of 2 jobs are not complete" in printed
    listing = list_records(tmp_path / "runs")
    assert [record.status for record in listing.records] == ["complete"]
    assert len(listing.problems) == 1


@pytest.mark.slow
def test_jobs_lost_with_their_launcher_are_started_again(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(*BASELINE, "seed=0,1")
    for record in list_records(tmp_path / "runs").records:
        # The error of an earlier command says nothing about this one's.
        failed = replace(record, status="failed", error=Failure(type="OSError", message="disk full"))
        RunFolder(tmp_path / "runs", record.run_id).write_record(failed)
    launcher, starts = basic_launcher.BasicLauncher, count()
    launch = launcher.launch

    def fails_twice(*arguments: Any) -> Any:
        if next(starts) < 2:
            raise OSError("the workers are gone")
        return launch(*arguments)

    monkeypatch.setattr(launcher, "launch", fails_twice)
    code, printed = sweep(*BASELINE, "seed=0,1")
    assert code == 0, printed
    assert next(starts) == 4


@pytest.mark.slow
def test_a_dry_run_lists_the_jobs_their_states_and_the_time_they_need(sweep: Sweep, tmp_path: Path) -> None:
    code, printed = sweep(*BASELINE, "seed=0,1", "dry=true")
    assert code == 0
    assert "2 to run, and no complete run shows how long they take" in printed
    assert not (tmp_path / "runs").exists()
    sweep(*BASELINE, "seed=0,1")
    code, printed = sweep(*BASELINE, "seed=0,1,2", "dry=true")
    lines = [line.split() for line in printed.splitlines() if line.strip()[:1].isdigit()]
    assert [line[3] for line in lines if line[1].startswith("seed=")] == ["complete", "complete", "pending"]
    assert re.search(r"2 of 3 jobs are complete; 1 to run, about \d\.\d s one after another", printed)
    assert len(written(tmp_path / "runs")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sed=1,2"], "job 0 (sed=1): sed: there is no such setting; did you mean seed?"),
        (
            ["prompt=prompt_tuning,prefix_tuning", 'prompt.layout="{input}[soft:3]"'],
            "job 1 (prompt=prefix_tuning): prompt.layout is '{input}[soft:3]', but prefix_tuning puts",
        ),
        (
            ["callbacks=early_stopping", "split.num_validation=8,0"],
            "job 1 (split.num_validation=0): callbacks monitor 'validation/macro_f1', but there are no",
        ),
        (["backbone=local", "seed=1,2"], "job 0 (seed=1): backbone.path has no default"),
        (
            ["backbone=local", "backbone.path=/no", "seed=1,2"],
            "job 0 (seed=1): backbone.path=/no does not exist",
        ),
        (
            ["prompt=hard_prompt,p_tuning", "prompt.layout='{input}'"],
            "job 1 (prompt=p_tuning): prompt.layout is '{input}', which holds no virtual tokens for p_tuning",
        ),
        (
            ["prompt=baseline/tfidf,hard_prompt", 'prompt.layout="[soft:5]{input}"'],
            "job 1 (prompt=hard_prompt): prompt.layout is '[soft:5]{input}', and prompt=hard_prompt has no",
        ),
    ],
)
def test_an_impossible_job_is_named_before_any_job_starts(
    sweep: Sweep, tmp_path: Path, arguments: list[str], message: str
) -> None:
    code, printed = sweep("experiment=quickstart", "split.num_test=8", *arguments)
    assert code == 1
    assert f"error: no job was started: {message}" in printed
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.slow
def test_a_job_that_diverges_stops_no_other(sweep: Sweep, tiny: list[str], tmp_path: Path) -> None:
    code, printed = sweep(
        *tiny, "prompt=prefix_tuning", "scheduler=constant", "prompt.learning_rate=3e37,0.01"
    )
    assert code == 1
    assert "failed: TrainingError: the loss is no longer finite" in printed
    assert sorted(record.status for record in list_records(tmp_path / "runs").records) == [
        "complete",
        "failed",
    ]


def test_a_run_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    settings = train_config(*BASELINE, f"paths.runs={tmp_path}")
    dry = settings.copy()
    dry.dry = True
    folder = train_one(dry)
    with (
        folder.lock(wait_s=0),
        pytest.raises(RunBusyError, match=r"is being run by another process: wait for it"),
    ):
        train_one(settings.copy())
    assert train_one(settings).is_complete


@pytest.mark.slow
def test_two_concurrent_sweeps_run_no_job_twice(tmp_path: Path) -> None:
    arguments = [*BASELINE, "seed=0,1", f"paths.runs={tmp_path / 'runs'}"]
    both = [start(*arguments, cwd=tmp_path) for _ in range(2)]
    for process in both:
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
    logs = [path.read_text() for path in (tmp_path / "runs").glob("*/run.log")]
    assert [log.count("INFO run ") for log in logs] == [1] * 2


def content(folder: Path) -> dict[str, object]:
    record = RunFolder(folder, "").record()
    assert record is not None
    bank, _ = load_bank(folder / "prompt.safetensors")
    return {
        "prompt": {name: tensor.numpy().tobytes() for name, tensor in bank.tensors().items()},
        "metrics": record.metrics,
        "curve": (folder / "metrics.csv").read_text(),
        "predictions": (folder / "predictions_test.parquet").read_bytes(),
    }


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_after_kill_9_the_same_command_ends_in_the_same_bytes(
    sweep: Sweep, tiny: list[str], tmp_path: Path, seed: int
) -> None:
    """Kill the sweep at a random step of a job: the same command resumes that job and runs the rest."""
    arguments = [
        *tiny,
        "prompt=p_tuning_lstm,prefix_tuning",
        'prompt.layout="[soft:4]{input}"',
        "trainer.max_epochs=20",
        "threads=1",  # so that both processes use the same number
    ]
    runs = tmp_path / "runs"
    step = random.Random(seed).randrange(2, 30)

    def rows() -> int:
        return sum(len(path.read_text().splitlines()) for path in runs.glob("*/metrics.csv"))

    process = start(*arguments, f"paths.runs={runs}", cwd=tmp_path)
    until(lambda: rows() > step)
    process.kill()
    process.communicate()
    assert [record.status for record in list_records(runs).records] == ["running"]

    code, printed = sweep(*arguments, f"paths.runs={runs}")
    assert code == 0, printed
    records = list_records(runs).records
    assert [record.training.resumes for record in records if record.training] in ([1, 0], [0, 1])
    code, printed = sweep(*arguments, f"paths.runs={tmp_path / 'whole'}")
    assert code == 0, printed
    for record in records:
        assert content(runs / record.run_id) == content(tmp_path / "whole" / record.run_id)


@pytest.mark.slow
def test_the_plan_names_every_run(sweep: Sweep, tmp_path: Path) -> None:
    sweep(*BASELINE, "seed=0,1")
    plan = json.loads((tmp_path / "runs" / "sweep.json").read_text())
    assert [job["label"] for job in plan["jobs"]] == ["seed=0", "seed=1"]
    assert {run for job in plan["jobs"] for run in job["runs"]} == set(written(tmp_path / "runs"))


@pytest.mark.slow
def test_the_table_of_a_sweep_over_texts_has_their_metric(
    sweep: Sweep, tiny: list[str], tmp_path: Path
) -> None:
    code, printed = sweep(*tiny, "data=airline_summaries", f"paths.runs={tmp_path / 'runs'}", "seed=0,1")
    assert code == 0
    scores = [record.metric("test", "rougeL") for record in list_records(tmp_path / "runs").records]
    assert "ROUGE-L" in printed
    assert "macro-F1" not in printed
    assert all(f"{score:.3f}" in printed for score in scores)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("seed=range(0,1000000000)", "the sweep has 1,000,000,000 jobs; it may have 100,000"),
        ("seed=range(3,3)", "the sweep has no job: a range or glob in"),
        ("prompt.learning_rate=interval(0,1)", "an interval is searched, as sweep=search"),
    ],
)
def test_a_sweep_of_too_many_jobs_or_none_is_refused(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        combinations({}, ["experiment=quickstart", argument])


def test_options_are_found_by_their_names(sweep: Sweep) -> None:
    code, printed = sweep("experiment=quickstart", "prompt=glob(p_tuning_*)", "dry=true")
    assert code == 0
    assert {"prompt=p_tuning_anchored", "prompt=p_tuning_infix", "prompt=p_tuning_lstm"} <= set(
        printed.split()
    )
