"""Score every submission, for whoever holds RAFT's hidden labels.

`python -m experiments.raft.score LABELS.csv [--task twitter_complaints]` reads a table with the columns ID
and Label and prints macro-F1 of each submission of that task, with a 95 % interval over rows (a bootstrap,
the same for all), and the difference to the submission without any lever.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softcue.statistics.outcomes import Floats, Outcomes, Weights, confusion_counts, macro_f1
from softcue.statistics.resampling import resample

SUBMISSIONS = Path(__file__).parent / "submissions"
TASKS = ("twitter_complaints", "tweet_eval_hate")
NO_LEVER = "prompt_tuning-no_lever"
Labels = Mapping[str, str]


def read_labels(path: Path) -> Labels:
    """The label of each ID; ValueError, with the way out, for a table without them."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    reader = csv.DictReader(text.splitlines())
    if not {"ID", "Label"} <= set(reader.fieldnames or ()):
        raise ValueError(f"{path} has the columns {reader.fieldnames}; give one with ID and Label.")
    return {row["ID"]: row["Label"] for row in reader}


def outcomes(truth: Labels, submitted: Labels, where: str) -> Outcomes:
    """A submission's rows, in the order of their IDs; ValueError if it is not one of these labels."""
    missing = truth.keys() - submitted.keys()
    classes = sorted({*submitted.values(), *truth.values()})
    if missing or len(classes) > 2:
        what = f"IDs such as {min(missing)} are missing" if missing else f"the labels are {classes}"
        raise ValueError(f"{where} does not fit the labels given: {what}. Is it the right --task?")
    ids = sorted(truth, key=int)
    target_B, predicted_B = (np.array([classes.index(of[row]) for row in ids]) for of in (truth, submitted))
    one_hot_BC = np.eye(len(classes))[predicted_B]
    return Outcomes(
        row_B=np.arange(len(ids)), target_B=target_B, predicted_B=predicted_B, probability_BC=one_hot_BC
    )


def score(run: Outcomes, weights_BK: Weights) -> Floats:
    """Macro-F1 of K resamples."""
    return macro_f1(confusion_counts(run, weights_BK))


def table(task: str, truth: Labels, submissions: Path = SUBMISSIONS) -> str:
    """A line for each submission, the best first."""
    paths = {
        path.name.split("--")[1].removesuffix(".csv.gz"): path for path in submissions.glob(f"{task}--*")
    }
    names = sorted(paths)
    runs = [outcomes(truth, read_labels(paths[name]), paths[name].name) for name in names]
    found = resample(runs, score, num_rows=len(truth), seed=0)
    lines = ["| submission | macro-F1 | ahead of no lever |", "|---|---:|---:|"]
    for at in np.argsort(-found.score_R):
        beside = ""
        if NO_LEVER in names:
            base = names.index(NO_LEVER)
            difference = found.score_R[at] - found.score_R[base]
            beside = with_interval(difference, found.score_RK[at] - found.score_RK[base], "+.3f")
        own = with_interval(found.score_R[at], found.score_RK[at], ".3f")
        lines.append(f"| {names[at]} | {own} | {beside} |")
    return "\n".join(lines)


def with_interval(value: float, resampled_K: NDArray[np.float64], form: str) -> str:
    """A value, and the middle 95 % of its resamples."""
    low, high = np.quantile(resampled_K, (0.025, 0.975))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--task", choices=TASKS, default=TASKS[0])
    arguments = parser.parse_args()
    try:
        print(table(arguments.task, read_labels(arguments.labels)))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
