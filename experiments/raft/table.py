"""RAFT from the records: cross-validated estimates of every candidate, and submissions; nothing is chosen.

`python -m experiments.raft.table` writes table.md and submissions/*.csv.gz. A submission is the class of the
mean probability over a candidate's runs that trained on all labelled rows. Calibration uses the mean
probabilities of the rows that are predicted, which have no labels (those held out, in cross-validation). The
threshold is the one at which their share of the first class is that of the labelled rows.
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
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from experiments.raft.score import score, with_interval
from softcue.evaluation.calibration import calibrated, divided_by_mean
from softcue.statistics.outcomes import Floats, Outcomes
from softcue.statistics.resampling import resample

HERE = Path(__file__).parent
TABLE, SUBMISSIONS = HERE / "table.md", HERE / "submissions"
CLASSES = {
    "twitter_complaints": ("complaint", "no complaint"),
    "tweet_eval_hate": ("hate speech", "not hate speech"),
}
RULES = ("probability", "calibrated", "threshold")
NO_LEVER = "prompt_tuning, no lever"
TOGETHER = {
    "transfer, instructed": "transfer, with and without instructed",
    "transfer, choice": "transfer, with and without choice",
    "cpt, no lever": "transfer together with cpt",
}
"""What joins the transferred prompts, and what the two are called."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run's settings and predictions."""

    task: str
    candidate: str
    source: str
    seed: int
    split: Mapping[str, Any]
    folder: Path

    @property
    def is_of_a_fold(self) -> bool:
        """Whether it was tested on labelled rows that it did not train on."""
        return bool(self.split["_target_"].endswith("KFold"))

    @property
    def is_final(self) -> bool:
        """Whether it predicted the rows without labels."""
        return (self.folder / "predictions_unlabelled.parquet").is_file()

    def probabilities(self, part: str) -> dict[str, float]:
        """The probability of the first class, by row."""
        table = pq.read_table(self.folder / f"predictions_{part}.parquet").to_pydict()
        return dict(zip(table["id"], table[f"p({CLASSES[self.task][0]})"], strict=True))

    def labels(self) -> dict[str, bool]:
        """Whether each test row is of the first class."""
        table = pq.read_table(self.folder / "predictions_test.parquet").to_pydict()
        return {
            row: label == CLASSES[self.task][0]
            for row, label in zip(table["id"], table["label"], strict=True)
        }


def runs() -> Iterator[Run]:
    """The complete runs on RAFT's rows."""
    for path in sorted((HERE / "runs").glob("*/record.json")):
        record = json.loads(path.read_text())
        settings = record["settings"]
        task = settings["data"]["source"].get("subset")
        if record["status"] != "complete" or task not in CLASSES:
            continue
        start = (settings["prompt"].get("initialiser") or {}).get("path") or ""
        yield Run(
            task=task,
            candidate=", ".join(levers(settings)) or f"{record['method']}, no lever",
            source=Path(start).name,
            seed=record["seed"],
            split=settings["split"],
            folder=path.parent,
        )


def levers(settings: Mapping[str, Any]) -> list[str]:
    """The levers that a run used, by the names that `experiments.raft.run` gives its candidates."""
    data, prompt, task = settings["data"], settings["prompt"], settings["data"]["task"]
    loss = settings["objective"]["_target_"].rpartition(".")[2]
    has_own_rate = prompt["name"] == "prompt_tuning" and prompt["learning_rate"] != 0.1
    start = (prompt.get("initialiser") or {}).get("path") or ""
    found = {
        "transfer": bool(start) and _is_of_airlines(Path(start).name),
        "transfer from other topics": bool(start) and not _is_of_airlines(Path(start).name),
        "instructed": "favorable" in task["template"],
        "yes or no": "yes" in task["verbalizer"].values(),
        "started from the instruction": "favorable" in data["instruction"],
        "neighbours": "num_neighbours" in data["source"],
        "chat": bool(settings["backbone"].get("chat")),
        "5 tokens": "soft:5]" in prompt.get("layout", ""),
        f"rate {prompt.get('learning_rate')}": has_own_rate and not start,
        "choice": loss == "ChoiceLoss" and not settings["scoring"]["per_token"],
        "length-normalised choice": loss == "ChoiceLoss" and settings["scoring"]["per_token"],
        "T-Few": loss == "TFewLoss",
        "self-training": loss == "SelfTraining",
    }
    return [name for name, is_so in found.items() if is_so]


def _is_of_airlines(source: str) -> bool:
    record = json.loads((HERE / "runs" / source / "record.json").read_text())
    return "task" in record["settings"]["data"]


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A repeat of the cross-validation: each labelled row, predicted by runs that did not train on it."""

    truth_N: NDArray[np.bool_]
    """Whether a row is of the first class."""
    probability_SN: Floats
    """Of the first class, by each seed."""


def repeats(found: Sequence[Run]) -> dict[int, Repeat]:
    """The repeats whose folds are all complete, by the seed of their folds."""
    by_repeat: dict[int, list[Run]] = defaultdict(list)
    for run in found:
        if run.is_of_a_fold:
            by_repeat[run.split["seed"]].append(run)
    complete = {}
    for seed, of in by_repeat.items():
        if len({run.split["fold"] for run in of}) < of[0].split["num_folds"]:
            continue
        by_seed: dict[int, dict[str, float]] = defaultdict(dict)
        labels: dict[str, bool] = {}
        for run in of:
            by_seed[run.seed] |= run.probabilities("test")
            labels |= run.labels()
        rows = sorted(labels)
        each = [[one[row] for row in rows] for one in by_seed.values() if len(one) == len(rows)]
        complete[seed] = Repeat(
            truth_N=np.array([labels[row] for row in rows]), probability_SN=np.array(each)
        )
    return complete


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a submission is made of: runs of some groups, and how their mean probability becomes a class."""

    task: str
    name: str
    groups: Sequence[Sequence[Run]]
    rule: str
    """How the mean probability becomes a class: one of `RULES`."""
    share: float
    """Of the first class among the labelled rows."""

    def repeats(self) -> list[Repeat]:
        """The repeats that all groups have, with the seeds of all of them."""
        each = [repeats(group) for group in self.groups]
        common = sorted(set.intersection(*(set(of) for of in each)))
        return [
            Repeat(
                truth_N=each[0][seed].truth_N,
                probability_SN=np.concatenate([of[seed].probability_SN for of in each]),
            )
            for seed in common
        ]

    def finals(self) -> list[Run]:
        """The runs that trained on all labelled rows and predicted those without labels."""
        return [run for group in self.groups for run in group if run.is_final]

    def decided(self, probability_N: Floats) -> NDArray[np.bool_]:
        """Whether each row is of the first class."""
        if self.rule == "threshold":
            rank_N = probability_N.argsort(kind="stable").argsort()
            return rank_N >= round((1 - self.share) * len(probability_N))
        if self.rule == "probability":
            return probability_N > 0.5
        probability_NC = torch.from_numpy(np.stack([probability_N, 1 - probability_N], axis=1))
        batch = divided_by_mean(probability_NC, method="batch", rows="those that are predicted")
        return (calibrated(probability_NC, batch)[:, 0] > 0.5).numpy()


def candidates(task: str) -> Iterator[Candidate]:
    """Every lever that has runs, then two templates or losses together, each by every rule."""
    by_name: dict[str, list[Run]] = defaultdict(list)
    labels: dict[str, bool] = {}
    for run in runs():
        if run.task == task:
            by_name[run.candidate].append(run)
            labels |= run.labels() if run.is_of_a_fold else {}
    share = sum(labels.values()) / max(1, len(labels))
    groups = {name: [by_name[name]] for name in sorted(by_name)}
    for other, together in TOGETHER.items():
        pair = [by_name.get("transfer"), by_name.get(other)]
        if all(pair):
            groups[together] = [runs for runs in pair if runs]
    for name, of in groups.items():
        for rule in RULES:
            full_name = name if rule == "probability" else f"{name}, {rule}"
            yield Candidate(task=task, name=full_name, groups=of, rule=rule, share=share)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Macro-F1 and AUROC over the 50 labelled rows."""

    alone: Sequence[float]
    """Macro-F1 of each seed of each repeat."""
    together: Sequence[float]
    """Of the mean probability of a repeat's seeds."""
    auroc: Sequence[float]
    resampled_K: Floats
    """The mean of `together` on resamples of the rows, which are the same for all candidates."""


def estimate(candidate: Candidate) -> Estimate | None:
    """Of the repeats whose folds are all complete; None if there is none."""
    found = candidate.repeats()
    if not found:
        return None
    means = [repeat.probability_SN.mean(axis=0) for repeat in found]
    chosen = [candidate.decided(mean_N) for mean_N in means]
    outcomes = [
        Outcomes(
            row_B=np.arange(len(repeat.truth_N)),
            target_B=repeat.truth_N.astype(np.int64),
            predicted_B=chosen_N.astype(np.int64),
            probability_BC=np.stack([1 - mean_N, mean_N], axis=1),
        )
        for repeat, chosen_N, mean_N in zip(found, chosen, means, strict=True)
    ]
    resampled = resample(outcomes, score, num_rows=len(found[0].truth_N), seed=0)
    return Estimate(
        alone=[
            macro_f1(repeat.truth_N, candidate.decided(probability_N))
            for repeat in found
            for probability_N in repeat.probability_SN
        ],
        together=[macro_f1(repeat.truth_N, of) for repeat, of in zip(found, chosen, strict=True)],
        auroc=[float(roc_auc_score(repeat.truth_N, of)) for repeat, of in zip(found, means, strict=True)],
        resampled_K=resampled.score_RK.mean(axis=0),
    )


def macro_f1(truth_N: NDArray[np.bool_], chosen_N: NDArray[np.bool_]) -> float:
    return float(f1_score(truth_N, chosen_N, average="macro"))


def write_submission(candidate: Candidate, name: str, finals: Sequence[Run]) -> str:
    """The classes of all rows without labels, in RAFT's format; the file's name."""
    each = [run.probabilities("unlabelled") for run in finals]
    rows = sorted(each[0], key=int)
    mean_N: Floats = np.mean([[of[row] for row in rows] for of in each], axis=0)
    positive, other = CLASSES[candidate.task]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ID", "Label"])
    writer.writerows(
        [row, positive if is_positive else other]
        for row, is_positive in zip(rows, candidate.decided(mean_N), strict=True)
    )
    file = f"{candidate.task}--{name.replace(', ', '-').replace(' ', '_')}.csv.gz"
    SUBMISSIONS.mkdir(exist_ok=True)
    # Without a time in the header, the same runs are the same bytes.
    (SUBMISSIONS / file).write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
    return file


def write_submissions(candidate: Candidate) -> str:
    """All runs of a candidate together, and those of each source of a transfer; what the table says of it."""
    finals = candidate.finals()
    if not finals or any(not any(run.is_final for run in group) for group in candidate.groups):
        return "none"
    sources = sorted({run.source for run in finals})
    if len(sources) > 1 and len(candidate.groups) == 1 and candidate.rule == "probability":
        for at, source in enumerate(sources):
            own = [run for run in finals if run.source == source]
            write_submission(candidate, f"{candidate.name}, source {at}", own)
    return f"`{write_submission(candidate, candidate.name, finals)}` ({len(finals)} prompts)"


def table() -> str:
    """A line for each candidate of each task."""
    lines = [
        "| task | candidate | macro-F1 of one prompt | of a repeat's seeds together | ahead of no lever "
        "| AUROC | submission |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for task in CLASSES:
        found = [(candidate, estimate(candidate)) for candidate in candidates(task)]
        base = next((known for candidate, known in found if candidate.name == NO_LEVER), None)
        for candidate, known in found:
            scores = ["not run", "", "", ""]
            if known is not None:
                alone = f"{np.mean(known.alone):.3f} ± {np.std(known.alone, ddof=1):.3f} ({len(known.alone)})"
                together = f"{np.mean(known.together):.3f} ({len(known.together)} repeats)"
                ahead = "" if base is None or known is base else _ahead(known, base)
                scores = [alone, together, ahead, f"{np.mean(known.auroc):.3f}"]
            lines.append(f"| {' | '.join([task, candidate.name, *scores, write_submissions(candidate)])} |")
    return "\n".join(lines) + "\n"


def _ahead(known: Estimate, base: Estimate) -> str:
    difference = float(np.mean(known.together) - np.mean(base.together))
    return with_interval(difference, known.resampled_K - base.resampled_K, "+.3f")


if __name__ == "__main__":
    TABLE.write_text(table())
