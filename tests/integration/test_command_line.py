"""The command as a user meets it: help, one-line errors, exit codes, a sweep with a bad job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import CACHE


def softcue_train(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "softcue.app", *arguments]
    environment = {**os.environ, "SOFTCUE_CACHE": str(CACHE)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_help_shows_the_groups_and_three_commands(tmp_path: Path) -> None:
    shown = softcue_train("--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert sum(line.strip().startswith("softcue-train ") for line in shown.stdout.splitlines()) >= 3
    assert list(tmp_path.iterdir()) == []


def test_the_worked_example_without_a_hub_says_in_one_line_what_runs_instead(tmp_path: Path) -> None:
    ended = softcue_train(cwd=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "backbone=smollm2_135m" in line
    assert "airline_complaints" in line
