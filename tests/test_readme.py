"""README.md is short, and its picture and lists are those of the records and the Makefile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
from scipy import stats

from docs.fill import ROOT
from experiments.sweeps.picture import PICTURE, draw, intervals
from softcue.runs.store import list_records

README = (ROOT / "README.md").read_text()
RUNS = ROOT / "experiments" / "sweeps" / "runs"


def test_the_readme_is_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_make_has_exactly_the_chores_that_the_readme_names() -> None:
    chores = re.search(r"lists the chores: `([^`]+)`", README)
    assert chores is not None
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"help", *chores[1].split()} == set(re.findall(r"make ([\w-]+)", shown))


def test_the_picture_is_that_of_the_records(tmp_path: Path) -> None:
    draw(intervals(RUNS), tmp_path / "methods.svg")
    assert (tmp_path / "methods.svg").read_text() == PICTURE.read_text(), "run `make docs`"


def test_the_pictures_intervals_are_those_of_a_t_test() -> None:
    """A 95 % t-interval holds the means that a one-sample t-test does not reject at 5 %."""
    found = intervals(RUNS)
    assert [len(interval.values) for interval in found] == [5] * 4
    for interval in found:
        scores = [
            record.metrics["test"]["macro_f1"]
            for record in list_records(RUNS).records
            if record.method == interval.method
        ]
        np.testing.assert_allclose(interval.mean, np.mean(np.array(scores, dtype=float)), rtol=1e-12)
        for end in (interval.low, interval.high):
            np.testing.assert_allclose(stats.ttest_1samp(scores, end).pvalue, 0.05, rtol=1e-6)
