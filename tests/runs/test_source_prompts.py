"""A run that starts from trained prompts is named by their content, through the whole config."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.plan import prepare
from softcue.runs import contents
from tests.composing import train_config
from tests.integration.conftest import CACHE

SOURCES = {
    "prompt.initialiser.path": ["prompt=prompt_tuning", "prompt/initialiser=saved"],
    "prompt.initialiser.query": [
        *("prompt=prompt_tuning", "prompt/initialiser=nearest", "prompt.initialiser.library=[none]"),
    ],
    "prompt.initialiser.library": [
        *("prompt=prompt_tuning", "prompt/initialiser=nearest", "prompt.initialiser.query=none"),
    ],
    "prompt.runs": ["prompt=ensemble"],
    "prompt.source": ["prompt=multitask_target"],
    "prompt.sources": ["prompt=attempt"],
}


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as written long ago."""
    monkeypatch.setattr(contents, "SETTLED_NS", 0)


def prompt_in(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "prompt.safetensors").write_bytes(content)
    return folder


def name_of_run(setting: str, source: Path) -> str:
    takes_one = setting in ("prompt.initialiser.path", "prompt.initialiser.query", "prompt.source")
    value = str(source) if takes_one else f"[{source}]"
    overrides = ["experiment=quickstart", *SOURCES[setting], f"{setting}={value}", f"paths.cache={CACHE}"]
    (run,) = prepare(train_config(*overrides))
    return run.folder.path.name


@pytest.mark.parametrize("setting", SOURCES)
def test_a_source_prompt_counts_by_its_content(tmp_path: Path, setting: str) -> None:
    one, copy = (prompt_in(tmp_path / name, b"1") for name in ("one", "copy"))
    other = prompt_in(tmp_path / "other", b"2")
    names = [name_of_run(setting, source) for source in (one, copy, other)]
    assert names[0] == names[1] != names[2]
    prompt_in(one, b"3")
    assert name_of_run(setting, one) not in names
