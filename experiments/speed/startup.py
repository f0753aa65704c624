"""Seconds until a command that trains nothing has ended: help, a dry run, a mistake, a report.

Each command runs in a process of its own, once unmeasured and then five times; the result is the median.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 5
RECORDS = Path(__file__).parents[1] / "quickstart" / "runs"
COMMANDS = {
    "softcue-train --help": 0,
    "softcue-train --version": 0,
    "softcue-train experiment=quickstart dry=true": 0,
    "softcue-train experiment=quickstart sed=1": 1,
    f"softcue-report runs={RECORDS.relative_to(RECORDS.parents[2])}": 0,
}
"""Each command and the exit code of one that exists and works."""


def startup() -> list[dict[str, Any]]:
    """The median of every command; `--version` is left out where the program does not know it."""
    return [
        {"work": "start-up", "command": command, "ours_s": seconds, "peer": None, "peer_s": None}
        for command, expected in COMMANDS.items()
        if (seconds := median_seconds(command, expected=expected)) is not None
    ]


def median_seconds(command: str, *, expected: int) -> float | None:
    """Wall-clock seconds of a command in a folder of its own; None if it has another exit code."""
    program, *arguments = command.split()
    script = Path(sys.executable).with_name(program)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / RECORDS.parts[-3]).symlink_to(RECORDS.parents[1])
        seconds = []
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            ended = subprocess.run([script, *arguments], cwd=folder, capture_output=True, check=False)
            seconds.append(time.perf_counter() - start)
            if ended.returncode != expected:
                return None
    return median(seconds[1:])
