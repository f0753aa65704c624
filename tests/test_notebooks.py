"""Every notebook runs as it is committed, here with a tiny model in the place of the embedded one.

`make site`, and so tests/docs/test_site.py, runs them with the embedded one.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from softcue.backbone import load
from tests.docs.workspace import fewer_tweets
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_backbone(tmp_path_factory.mktemp("model"), CACHE)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(notebook.parent, tmp_path / "notebooks")
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))
    monkeypatch.setattr(load, "dequantised", lambda gguf, cache: tiny)
    names: dict[str, object] = {}
    with fewer_tweets():
        for cell in code_cells(notebook):
            exec("".join(cell["source"]), names)
    # What it trains stays out of the folder of notebooks.
    assert sorted(path.name for path in (tmp_path / "notebooks").iterdir()) == [one.name for one in NOTEBOOKS]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(notebook: Path) -> None:
    assert [(cell["outputs"], cell["execution_count"]) for cell in code_cells(notebook)] == [
        ([], None) for _ in code_cells(notebook)
    ]


def test_the_notebooks_are_numbered_and_named_in_the_documentation() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert [path.stem[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]
    assert all(f"<notebooks/{path.stem}>" in index for path in NOTEBOOKS)
