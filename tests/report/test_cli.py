"""How a Hydra app of this package fails, alone and in a sweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import hydra
from softcue.cli import run_app
from softcue.errors import DataError

@hydra.main(version_base="1.3", config_path=None, config_name=None)
@run_app
def main(settings):
    if settings.kind == "mistake":
        raise DataError("the table is empty:\\n  give another")
    if settings.kind == "defect":
        raise ZeroDivisionError("ours")
    print(f"done {settings.kind}")

main()
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    path.write_text(APP)
    return path


def _run(app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(app), *arguments]
    return subprocess.run(command, cwd=app.parent, capture_output=True, text=True, check=False)


def test_the_users_mistake_is_one_line_and_exit_code_1(app: Path) -> None:
    done = _run(app, "+kind=mistake")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the table is empty: give another\n"


def test_a_defect_keeps_its_stack_trace(app: Path) -> None:
    done = _run(app, "+kind=defect")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: ours" in done.stderr


def test_a_sweep_continues_after_a_mistake_and_ends_with_exit_code_1(app: Path) -> None:
    done = _run(app, "-m", "+kind=first,mistake,last")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("done")] == [
        "done first",
        "done last",
    ]
    assert done.stderr.splitlines()[:3] == [
        "error: the table is empty: give another",
        "Error executing job with overrides: ['+kind=mistake']",
        "error: the table is empty: give another",
    ]
    assert "Traceback" not in done.stderr


def test_a_run_without_mistakes_ends_with_exit_code_0(app: Path) -> None:
    done = _run(app, "+kind=fine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done fine\n", "")
