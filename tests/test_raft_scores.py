"""The script that scores RAFT's submissions, with labels made up here."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import f1_score

from experiments.raft.run import METHODS
from experiments.raft.run import Candidate as Declared
from experiments.raft.run import candidates as declared
from experiments.raft.score import NO_LEVER, SUBMISSIONS, outcomes, read_labels, table
from experiments.raft.table import candidates, estimate, levers
from tests.composing import train_config

TASK, NAMES = "twitter_complaints", ["complaint", "no complaint"]


def as_csv(labels: list[str]) -> str:
    return "ID,Label\n" + "".join(f"{row},{label}\n" for row, label in enumerate(labels))


def test_a_submission_is_scored_as_scikit_learn_scores_it_and_the_best_comes_first(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    truth, ours = ([NAMES[at] for at in generator.integers(0, 2, 300)] for _ in range(2))
    (tmp_path / "labels.csv").write_text(as_csv(truth))
    for name, submitted in (("right", truth), (NO_LEVER, ours)):
        (tmp_path / f"{TASK}--{name}.csv.gz").write_bytes(gzip.compress(as_csv(submitted).encode()))
    first, second = table(TASK, read_labels(tmp_path / "labels.csv"), tmp_path).splitlines()[2:]
    assert first.startswith("| right | 1.000 [1.000, 1.000] | +")
    assert second.endswith("| +0.000 [+0.000, +0.000] |")
    value, low, high = map(float, re.findall(r"\d\.\d{3}", second)[:3])
    assert value == pytest.approx(f1_score(truth, ours, average="macro"), abs=6e-4)
    # About what a binomial share of 300 rows has.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 300), rel=0.15)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("row,class\n1,a\n")
    with pytest.raises(ValueError, match=r"has the columns .*; give one with ID and Label"):
        read_labels(tmp_path / "other.csv")
    with pytest.raises(ValueError, match=r"IDs such as 7 are missing.*right --task"):
        outcomes({"7": "complaint"}, {"8": "complaint"}, "ours")
    with pytest.raises(ValueError, match=r"the labels are .*right --task"):
        outcomes({"7": "hate speech"}, {"7": "complaint", "8": "no complaint"}, "ours")


@pytest.mark.parametrize("path", sorted(SUBMISSIONS.glob("*.csv.gz")), ids=lambda path: path.name)
def test_a_submission_has_every_row(path: Path) -> None:
    labels = read_labels(path)
    assert len(labels) == {"twitter_complaints": 3399, "tweet_eval_hate": 2966}[path.name.split("--")[0]]
    assert len(set(labels.values())) == 2


def test_calibration_divides_each_class_by_its_mean_in_the_batch() -> None:
    found = next(of for of in candidates(TASK) if of.name == "transfer, calibrated")
    # Means .6 and .4: .8 / .6 against .2 / .4, .61 / .6 against .39 / .4, .59 / .6 against .41 / .4.
    assert found.decided(np.array([0.8, 0.61, 0.59, 0.4])).tolist() == [True, True, False, False]


def test_the_threshold_gives_the_first_class_its_share_of_the_labelled_rows() -> None:
    found = next(of for of in candidates(TASK) if of.name == "transfer, threshold")
    assert found.share == 17 / 50
    assert found.decided(np.array([0.1, 0.4, 0.3, 0.2, 0.35, 0.05])).tolist() == [0, 1, 0, 0, 1, 0]


def test_the_estimate_of_the_transfer_counts_each_labelled_row_once_in_each_repeat() -> None:
    found = next(of for of in candidates(TASK) if of.name == "transfer")
    repeats = found.repeats()
    assert [repeat.probability_SN.shape for repeat in repeats] == [(3, 50)] * 3
    assert {int(repeat.truth_N.sum()) for repeat in repeats} == {17}
    known = estimate(found)
    assert known is not None
    means = [repeat.probability_SN.mean(axis=0) > 0.5 for repeat in repeats]
    expected = [f1_score(of.truth_N, mean, average="macro") for of, mean in zip(repeats, means, strict=True)]
    assert known.together == pytest.approx(expected)
    assert known.resampled_K.mean() == pytest.approx(np.mean(expected), abs=0.02)


@pytest.mark.parametrize(
    "candidate", [of for of in declared(TASK) if of.source is None], ids=lambda of: of.name
)
def test_a_run_bears_the_name_that_its_candidate_has_in_the_table(candidate: Declared) -> None:
    settings: Any = OmegaConf.to_container(
        train_config(f"data=raft_{TASK}", *candidate.settings, "backbone=smollm2_135m"), resolve=True
    )
    is_lever = candidate.name != "base" and candidate.name not in ("cpt", *METHODS)
    assert ", ".join(levers(settings)) == (candidate.name if is_lever else "")
