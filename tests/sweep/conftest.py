"""Sweeps as a user starts them, on the tiny backbone or without one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softcue.app import main
from tests.integration.conftest import CACHE
from tests.resume.conftest import tiny, tiny_backbone
from tests.sweep.folder import Folder

__all__ = ["sweep", "tiny", "tiny_backbone"]

Sweep = Callable[..., tuple[int, str]]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Sweep:
    """Run `softcue-train -m` in this process, which saves the imports; the exit code and the output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["softcue-train", "-m", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capfd.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    root = tmp_path / "runs"
    root.mkdir()
    return Folder(root)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `softcue-train -m` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "softcue.app", "-m", *arguments],
        cwd=cwd,
        env={**os.environ, "SOFTCUE_CACHE": str(CACHE), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
