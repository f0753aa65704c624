"""RAFT from the records: cross-validated estimates of every candidate, and submissions; nothing is chosen.

`python -m experiments.raft.table` writes table.md and submissions/*.csv.gz. A submission is the class of the
mean probability over a candidate's runs that trained on all labelled rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

HERE = Path(__file__).parent
TABLE, SUBMISSIONS = HERE / "table.md", HERE / "submissions"
POSITIVE = {"twitter_complaints": "complaint", "tweet_eval_hate": "hate speech"}
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's settings and predictions."""

    task: str
    candidate: str
    source: str
    seed: int
    split: Mapping[str, Any]
    folder: Path

    def probabilities(self, part: str) -> dict[str, float]:
        """The probability of the first class, by row."""
        table = pq.read_table(self.folder / f"predictions_{part}.parquet").to_pydict()
        return dict(zip(table["id"], table[f"p({POSITIVE[self.task]})"], strict=True))

    def labels(self) -> dict[str, bool]:
        """Whether each test row is of the first class."""
        table = pq.read_table(self.folder / "predictions_test.parquet").to_pydict()
        return {
            row: label == POSITIVE[self.task] for row, label in zip(table["id"], table["label"], strict=True)
        }


def runs() -> Iterator[Run]:
    """The complete runs on RAFT's rows."""
    for path in sorted((HERE / "runs").glob("*/record.json")):
        record = json.loads(path.read_text())
        settings = record["settings"]
        task = settings["data"]["source"].get("subset")
        if record["status"] != "complete" or task not in POSITIVE:
            continue
        start = (settings["prompt"].get("initialiser") or {}).get("path") or ""
        is_told = "favorable" in settings["data"]["task"]["template"]
        levers = [
            *(["transfer"] if start else []),
            *(["instructed"] if is_told else []),
            *(["choice"] if "ChoiceLoss" in settings["objective"]["_target_"] else []),
            *(["self-training"] if "SelfTraining" in settings["objective"]["_target_"] else []),
        ]
        name = ", ".join(levers) or f"{record['method']}, no lever"
        yield Run(
            task=task,
            candidate=name,
            source=Path(start).name,
            seed=record["seed"],
            split=settings["split"],
            folder=path.parent,
        )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Macro-F1 and AUROC over the 50 labelled rows, each predicted by runs that did not train on it."""

    alone: Sequence[float]
    """Macro-F1 of each seed of each repeat."""
    together: Sequence[float]
    """Of the mean probability of a repeat's seeds."""
    auroc: Sequence[float]


def estimate(found: Sequence[Run]) -> Estimate | None:
    """Of the repeats whose folds are all complete; None if there is none."""
    by_repeat: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in found:
        if run.split["_target_"].endswith("KFold"):
            by_repeat[run.source, run.split["seed"]].append(run)
    alone, together, auroc = [], [], []
    for repeat in by_repeat.values():
        by_seed: dict[int, dict[str, float]] = defaultdict(dict)
        labels: dict[str, bool] = {}
        for run in repeat:
            by_seed[run.seed] |= run.probabilities("test")
            labels |= run.labels()
        if len({run.split["fold"] for run in repeat}) < repeat[0].split["num_folds"]:
            continue
        rows = sorted(labels)
        truth = np.array([labels[row] for row in rows])
        seeds = [np.array([of[row] for row in rows]) for of in by_seed.values() if len(of) == len(rows)]
        alone += [macro_f1(truth, of) for of in seeds]
        mean: Floats = np.mean(seeds, axis=0)
        together.append(macro_f1(truth, mean))
        auroc.append(float(roc_auc_score(truth, mean)))
    return Estimate(alone=alone, together=together, auroc=auroc) if together else None


def macro_f1(truth: NDArray[np.bool_], probability: Floats) -> float:
    return float(f1_score(truth, probability > 0.5, average="macro"))


def write_submission(task: str, name: str, finals: Sequence[Run]) -> str:
    """The classes of all rows without labels, in RAFT's format; the file's name."""
    each = [run.probabilities("unlabelled") for run in finals]
    other = "no complaint" if task == "twitter_complaints" else "not hate speech"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ID", "Label"])
    for row in sorted(each[0], key=int):
        mean = float(np.mean([of[row] for of in each]))
        writer.writerow([row, POSITIVE[task] if mean > 0.5 else other])
    file = f"{task}--{name.replace(', ', '-').replace(' ', '_')}.csv.gz"
    SUBMISSIONS.mkdir(exist_ok=True)
    # Without a time in the header, the same runs are the same bytes.
    (SUBMISSIONS / file).write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return file


def table() -> str:
    """A line for each candidate of each task."""
    by_candidate: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs():
        by_candidate[run.task, run.candidate].append(run)
    lines = [
        "| task | candidate | macro-F1 of one prompt | of a repeat's seeds together | AUROC | submission |",
        "|---|---|---:|---:|---:|---|",
    ]
    for (task, name), found in sorted(
        by_candidate.items(), key=lambda item: (item[0][0] != "twitter_complaints", item[0])
    ):
        finals = [run for run in found if (run.folder / "predictions_unlabelled.parquet").is_file()]
        known = estimate(found)
        alone, together, auroc = "not run", "", ""
        if known is not None:
            alone = f"{np.mean(known.alone):.3f} ± {np.std(known.alone, ddof=1):.3f} ({len(known.alone)})"
            together = f"{np.mean(known.together):.3f} ({len(known.together)} repeats)"
            auroc = f"{np.mean(known.auroc):.3f}"
        sources = sorted({run.source for run in finals})
        file = "none"
        if finals:
            parts = [
                (f"{name}, source {at}", [r for r in finals if r.source == of])
                for at, of in enumerate(sources)
            ]
            for part, own in parts if len(sources) > 1 else []:
                write_submission(task, part, own)
            file = f"`{write_submission(task, name, finals)}` ({len(finals)} prompts)"
        lines.append(f"| {task} | {name} | {alone} | {together} | {auroc} | {file} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table())
