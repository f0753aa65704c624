"""README.md is short, and its picture and lists are those of the records and the Makefile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from docs.fill import ROOT
from experiments.methods.picture import PICTURE, draw

README = (ROOT / "README.md").read_text()


def test_the_readme_is_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_make_has_exactly_the_chores_that_the_readme_names() -> None:
    chores = re.search(r"lists the chores: `([^`]+)`", README)
    assert chores is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"help", *chores[1].split()} == set(re.findall(r"make ([\w-]+)", shown))


@pytest.mark.slow  # compares a hundred and more runs
def test_the_picture_is_that_of_the_records(tmp_path: Path) -> None:
    draw(tmp_path / "tuned.svg")
    assert (tmp_path / "tuned.svg").read_text() == PICTURE.read_text(), "run `make experiments`"


def test_the_picture_is_the_one_that_stands_in_the_readme() -> None:
    assert f"]({PICTURE.relative_to(ROOT)})" in README
