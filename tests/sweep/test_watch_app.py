"""`softcue-watch` as a user runs it: a process in a terminal or a pipe."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.entry_points import run_script
from tests.sweep.folder import Folder

COMMAND = (sys.executable, "-m", "softcue.sweep.watch")


def _watch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_script("softcue-watch", *arguments, cwd=folder)


class Terminal:
    """The command in its own terminal, and everything shown there."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.screen, inner = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        # Background processes inherit that Ctrl-C is ignored; a command in a terminal does not.
        ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments], cwd=folder, stdin=inner, stdout=inner, stderr=inner, env=environment
            )
        finally:
            signal.signal(signal.SIGINT, ignored)
        os.close(inner)
        self.shown = ""
        self.until = time.monotonic() + 60

    def wait_for(self, words: str) -> None:
        """Read until the words are shown; AssertionError if that takes a minute."""
        while words not in self.shown:
            self._read()

    def end(self) -> int:
        """Read the rest of the output; the exit code."""
        try:
            while True:
                self._read()
        except OSError:
            # Linux raises it once no process has the terminal open.
            os.close(self.screen)
        return self.process.wait(timeout=20)

    def _read(self) -> None:
        if not select.select([self.screen], [], [], max(0, self.until - time.monotonic()))[0]:
            self.process.kill()
            raise AssertionError(f"nothing was shown for a minute after {self.shown[-500:]!r}")
        self.shown += os.read(self.screen, 65536).decode(errors="replace")


def test_in_a_pipe_it_prints_one_plain_view_and_ends(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    folder.add("tfidf-0", macro_f1=0.5)
    done = _watch(folder.root.parent, "runs=runs")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("runs\nsoftcue-train -m experiment=quickstart")
    assert "1 complete · 0 failed · 0 running · 0 interrupted · 1 pending of 2 jobs" in done.stdout
    assert "\x1b" not in done.stdout
    assert {path.name for path in folder.root.parent.iterdir()} == {"runs"}


def test_once_prints_one_view_in_a_terminal_too(folder: Folder) -> None:
    folder.plan("tfidf-0")
    terminal = Terminal(folder.root, "runs=.", "once=true")
    assert terminal.end() == 0
    assert "1 pending of 1 job" in terminal.shown
    assert "\x1b" not in terminal.shown


def test_the_view_follows_the_sweep_and_ctrl_c_ends_it_without_a_stack_trace(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    terminal = Terminal(folder.root, "runs=.", "refresh_s=0.1")
    terminal.wait_for("2 pending")
    folder.add("tfidf-0", macro_f1=0.5)
    terminal.wait_for("1 pending")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.shown


def test_it_ends_with_the_sweep(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    folder.add("tfidf-0", macro_f1=0.5)
    folder.fail("tfidf-1", "the loss is nan")
    earlier = time.time() - 60
    for path in (folder.root / "sweep.json", *folder.root.glob("*/record.json")):
        os.utime(path, (earlier, earlier))
    terminal = Terminal(folder.root, "runs=.", "refresh_s=3600")
    assert terminal.end() == 0
    assert "every job has ended" in terminal.shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs=none"], "error: no folder none: give the one that the sweep writes to"),
        (["runs=.", "refresh_s=0"], "error: refresh_s is 0; give seconds above 0."),
        ([], "error: runs has no default; give it as runs=..."),
        (
            ["runs=.", "metric=f1"],
            "error: 'f1' is not a metric; choose one of accuracy, macro_f1",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = _watch(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_it_needs_no_torch() -> None:
    code = "import sys, softcue.sweep.watch; print({'torch', 'lightning', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_help_teaches_the_command_by_examples(tmp_path: Path) -> None:
    done = _watch(tmp_path, "--help")
    assert done.returncode == 0
    assert "softcue-watch runs=runs/methods_x_seeds once=true\n" in done.stdout
    assert "metric: macro_f1" in done.stdout
