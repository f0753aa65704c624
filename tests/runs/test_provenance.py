"""Versions, commit and machine, as recorded."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from softcue.runs.provenance import git_state, hardware, utc_now, versions
from softcue.runs.record import Git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit of `src/code.py`."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("1\n")
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "--message=one")
    return tmp_path


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.hooksPath=/dev/null", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_clean_tree_is_its_commit(repository: Path) -> None:
    commit = _git(repository, "rev-parse", "HEAD")
    assert git_state(repository / "src") == Git(commit=commit, dirty=False)


@pytest.mark.parametrize("changed", ["code.py", "new.py"])
def test_a_changed_or_new_source_file_makes_the_tree_dirty(repository: Path, changed: str) -> None:
    (repository / "src" / changed).write_text("2\n")
    state = git_state(repository / "src")
    assert state is not None
    assert state.dirty


def test_results_beside_the_source_do_not_make_it_dirty(repository: Path) -> None:
    (repository / "runs").mkdir()
    (repository / "runs" / "record.json").write_text("{}")
    state = git_state(repository / "src")
    assert state is not None
    assert not state.dirty


def test_a_package_installed_inside_another_repository_has_no_commit(repository: Path) -> None:
    installed = repository / ".venv" / "softcue"
    installed.mkdir(parents=True)
    (installed / "code.py").touch()
    assert git_state(installed) is None


def test_a_folder_outside_any_repository_has_no_commit(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_a_hooks_environment_does_not_name_another_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_state(repository / "src") is not None


def test_a_machine_without_git_has_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert git_state(repository / "src") is None


def test_versions_are_those_installed_and_absent_packages_are_left_out() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["torch"] == version("torch")
    assert all(found.values())


def test_hardware_is_this_machines_with_torchs_threads_and_gpu() -> None:
    machine = hardware(threads=3, gpu="A100")
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_gb > 0.5
    assert (machine.threads, machine.gpu) == (3, "A100")


def test_the_time_of_day_is_in_utc() -> None:
    assert abs(datetime.fromisoformat(utc_now()) - datetime.now(UTC)) < timedelta(seconds=5)
