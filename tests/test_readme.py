"""What README.md shows is true: its example runs, its tables are the generated ones, its files exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from experiments.fill_readme import BLOCK, ROOT, filled
from softcue.build import build_prompt
from softcue.data.template import compose
from tests.composing import train_config
from tests.tiny import tiny_lm

README = (ROOT / "README.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


def test_the_new_method_of_the_readme_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompt").mkdir()
    for name, content in EXAMPLES.items():
        (tmp_path / name).write_text(content)
    assert (tmp_path / "repeated.py").is_file()
    monkeypatch.syspath_prepend(tmp_path)
    settings = train_config("prompt=repeated", f"hydra.searchpath=[file://{tmp_path}]")
    prompt = build_prompt(settings, tiny_lm("llama").spec, compose(settings.prompt.layout, "{text}"))
    embeddings = prompt().embeddings_TPD
    assert embeddings is not None
    assert embeddings.shape[:2] == (1, 20)
    assert [parameter.numel() for parameter in prompt.parameters()] == [embeddings.shape[2]]


def test_the_tables_are_those_of_the_records() -> None:
    assert filled(README, ROOT) == README
    assert len(BLOCK.findall(README)) >= 1


def test_every_option_the_readme_names_exists() -> None:
    table = README.split("| group | options |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        groups, choices = (re.findall(r"`([\w/]+)`", cell) for cell in line.split("|")[1:3])
        for choice in choices:
            assert any((ROOT / "conf" / group / f"{choice}.yaml").is_file() for group in groups), choice


def test_make_has_every_chore_the_readme_names() -> None:
    chores = re.search(r"lists the chores: `([^`]+)`", README)
    assert chores is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(chores[1].split()) <= set(re.findall(r"make ([\w-]+)", shown))
