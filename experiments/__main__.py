"""Write every table and picture of the folders again, from their records alone: `python -m experiments`.

Modules named table, picture, page, trials or claims write those of their folder; a README's `softcue-report`
lines whose output stands under experiments/ the others. Then all READMEs and pages are filled.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
REPORT = re.compile(
    r"^softcue-report ('?runs=(?:\[?experiments/|null ).*output=experiments/\S+)$", re.MULTILINE
)


def commands() -> list[list[str]]:
    """Each command in a process of its own, so that none depends on another's settings."""
    modules = [
        f"experiments.{file.parent.name}.{file.stem}"
        for file in sorted(HERE.glob("*/*.py"))
        if file.stem in ("table", "picture", "page", "trials", "claims")
    ]
    report = str(Path(sys.executable).with_name("softcue-report"))
    reports = [
        [report, *shlex.split(arguments)]
        for readme in sorted(HERE.glob("*/README.md"))
        for arguments in REPORT.findall(re.sub(r"\s*\\\n\s*", " ", readme.read_text()))
    ]
    return [*([sys.executable, "-m", module] for module in (*modules, "experiments.paper_hours")), *reports]


if __name__ == "__main__":
    for command in [*commands(), [sys.executable, "-m", "docs.fill"]]:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{time.perf_counter() - began:5.1f} s {shlex.join(command[1:])}", flush=True)
