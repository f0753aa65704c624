"""`make site` builds without a warning and without the network, and runs the notebooks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from docs.fill import ROOT


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-qWE",
            "--keep-going",
            "-d",
            tmp_path / "trees",
            "docs",
            tmp_path / "site",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # -W makes warnings errors; the notebooks' kernels write to stderr.
    assert ended.returncode == 0, ended.stderr
    docs = ROOT / "docs"
    pages = (*docs.glob("*.md"), *(docs / "notebooks").glob("*.ipynb"))
    assert {path.relative_to(docs).with_suffix(".html") for path in pages} <= {
        path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("*.html")
    }
