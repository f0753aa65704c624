"""The command: help in one screen, versions, Ctrl-C, and lines that say how far it is."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import softcue
from softcue.configs.groups import GROUPS
from softcue.configs.help import OWN, SETTINGS, full_help, short_help
from softcue.runs.record import RunRecord
from tests.composing import CHOICES, train_config
from tests.docs.commands import Call
from tests.docs.workspace import run_entry_point
from tests.integration.conftest import CACHE
from tests.own_data.conftest import write_reviews
from tests.running import train_one
from tests.tiny_backbone import save_tiny_backbone


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    save_tiny_backbone(folder / "model", CACHE)
    write_reviews(folder, ("good", "bad"))
    return folder


@pytest.fixture
def overrides(work: Path, tmp_path: Path) -> list[str]:
    return [
        *("backbone=local", f"backbone.path={work / 'model'}", f"paths.cache={CACHE}"),
        *("data=table", f"data.source.path={work / 'reviews.csv'}", f"paths.runs={tmp_path / 'runs'}"),
        *("split=few_shot", "split.num_train=8", "split.num_test=6"),
    ]


def shown(*arguments: str, cwd: Path, program: str = "softcue-train") -> str:
    return run_entry_point(Call(program=program, arguments=arguments, stdin=b""), cwd=cwd)


def test_help_is_one_screen_with_every_group_and_settings_that_exist(tmp_path: Path) -> None:
    text = shown("--help", cwd=tmp_path)
    assert text == short_help() + "\n"
    assert len(text.splitlines()) < 60
    assert max(map(len, text.splitlines())) <= 100
    assert all(f"  {group} " in text and GROUPS[group] in text for group in OWN)
    for name in SETTINGS:
        options = {"split.num_train": ["split=few_shot"], "data.source.path": ["data=table"]}.get(name, [])
        train_config(*options, f"{name}=null")


def test_all_of_help_has_every_option_and_no_private_one() -> None:
    text = full_help()
    for choice in CHOICES:
        group, _, option = choice.partition("=")
        if group in OWN:
            assert re.search(rf"^  {re.escape(option)}: ", text, re.MULTILINE), choice
    assert "_loader" not in text
    assert "\nseed: 0\n" in text


def test_the_version_is_softcues(tmp_path: Path) -> None:
    for program in ("softcue", "softcue-train"):
        assert shown("--version", cwd=tmp_path, program=program) == f"softcue {softcue.__version__}\n"
    assert "softcue-predict" in shown(cwd=tmp_path, program="softcue")


def test_bash_completes_groups_options_and_settings(tmp_path: Path) -> None:
    program = tmp_path / "softcue-train"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m softcue.app "$@"\n')
    program.chmod(0o755)
    script = shown("--shell-completion", "install=bash", cwd=tmp_path)
    for word, expected in (
        ("prompt=p_tuning_l", "prompt=p_tuning_lstm"),
        ("optimizer.weig", "optimizer.weight_decay="),
    ):
        line = f"softcue-train {word}"
        asked = f'COMP_LINE="{line}" COMP_POINT={len(line)} COMP_CWORD=1 hydra_bash_completion'
        command = ["bash", "-c", f'{script}\n{asked}; echo "$COMPREPLY"']
        path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        ended = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == expected, ended.stderr


def test_without_a_terminal_each_epoch_is_a_line(
    overrides: list[str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    train_one(train_config(*overrides, "trainer.max_epochs=2", "split.num_validation=4"))
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert re.fullmatch(r"epoch 1 of 2: loss [\d.]+, validation macro-F1 [\d.]+, about .+ left", lines[0])
    assert re.fullmatch(r"epoch 2 of 2: loss [\d.]+, validation macro-F1 [\d.]+, done", lines[1])
    printed = capsys.readouterr()
    assert not re.search(r"━|it/s|examples/s", printed.out + printed.err)


@pytest.mark.slow
def test_a_sweep_says_which_job_of_how_many_and_the_time_left(overrides: list[str], tmp_path: Path) -> None:
    text = shown("-m", *overrides, "trainer.max_epochs=1", "seed=0,1,2", cwd=tmp_path)
    assert "job 1 of 3: seed=0" in text
    assert re.search(r"job 3 of 3, about .+ left: seed=2", text)


def test_joint_runs_say_whose_results_follow(overrides: list[str], tmp_path: Path) -> None:
    text = shown(*overrides, "trainer.max_epochs=1", "joint.seed=[0,1]", cwd=tmp_path)
    found = [line for line in text.splitlines() if line.startswith("results of")]
    assert [line.rpartition(", ")[2] for line in found] == ["seed 0:", "seed 1:"]


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on_and_exits_with_130(overrides: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "softcue.app", *overrides, "trainer.max_epochs=100000"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
    ) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/metrics.csv")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == ("interrupted; the same command again resumes it.")
    assert "is interrupted: it resumes from its last saved state" in output + errors
    assert "Traceback" not in output + errors
    (record,) = tmp_path.glob("runs/*/record.json")
    assert RunRecord.from_json(record.read_text()).status == "running"
