"""The provenance of a run's numbers: package versions, the commit of the source, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from softcue.runs.record import Git, Hardware
from softcue.version import __version__

PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "datasets",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scikit-learn",
    "peft",
)


def versions() -> dict[str, str]:
    """Python's version, and that of each installed package that can change a number."""
    # A source tree that was never installed has a version too.
    found = {"python": platform.python_version(), "softcue": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> Git | None:
    """The commit of `folder`, dirty if a file under it is changed or new.

    None if git does not track the folder, as with site-packages inside another repository.
    """
    if not _git(folder, "ls-files", "."):
        return None
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    return Git(commit=commit, dirty=bool(_git(folder, "status", "--porcelain", ".")))


def _git(folder: Path, *arguments: str) -> str:
    # In a git hook, GIT_DIR and similar variables name another repository than the folder's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def hardware(*, threads: int, gpu: str | None) -> Hardware:
    """This machine; `threads` and `gpu` are torch's, which is not imported here."""
    return Hardware(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        gpu=gpu,
        threads=threads,
    )


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def utc_now() -> str:
    """The time for `started_at` and `finished_at`, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
