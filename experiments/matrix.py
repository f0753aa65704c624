"""Runs in rows and columns of one's own, with the report's statistics: the tables of the papers' folders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from softcue.report.evidence import Evidence, gather
from softcue.report.model import Cell, CellScore, Cost, Pair, Run, TaskRows
from softcue.report.pairs import Field, adjusted, design_of, pair_cells
from softcue.report.runs import load_runs
from softcue.report.scores import cell_scores
from softcue.report.sources import find_runs
from softcue.runs.metrics import metric_named
from softcue.runs.record import RunRecord
from softcue.statistics.outcomes import Indices
from softcue.statistics.power import Design

Label = tuple[str, str]
"""A row and a column of a table."""
NOT_RUN = "not run"


def recorded(experiment: str, *methods: str) -> list[Path]:
    """The runs of some methods that another experiment has recorded."""
    runs = Path(__file__).parent / experiment / "runs"
    return [path for method in methods for path in sorted(runs.glob(f"{method}-*"))]


def replicate(record: RunRecord) -> dict[str, str]:
    """The seed and the draw of labels, which are one number in most experiments."""
    return {"seed": str(record.seed), "draw": str(record.settings["split"]["seed"])}


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Runs by the label that a table gives them; those of one label are repetitions."""

    runs: Mapping[Label, Sequence[Run]]
    rows: TaskRows | None
    metric: str = "macro_f1"

    @classmethod
    def read(
        cls,
        folders: Sequence[Path],
        label: Callable[[RunRecord], Label | None],
        *,
        task: str = "airline_complaints",
        metric: str = "macro_f1",
        repeated: Callable[[RunRecord], dict[str, str]] = replicate,
    ) -> Groups:
        """The complete runs of a task under some folders; a run without a label is left out."""
        collected = load_runs(find_runs(folders).sources, part="test")
        runs: dict[Label, list[Run]] = {}
        for loaded in collected.loaded:
            record = loaded.run.record
            assert record is not None
            name = label(record) if loaded.run.task == task else None
            if name is not None:
                runs.setdefault(name, []).append(replace(loaded.run, replicate=repeated(record)))
        table = collected.tables.get(task)
        return cls(runs=runs, rows=None if table is None else table.rows(), metric=metric)

    def score(self, label: Label) -> CellScore | None:
        """Mean, deviation and interval of a label's runs; None without any."""
        if not self.runs.get(label):
            return None
        found = cell_scores({self.metric: self._evidence}, self._all, self._places[label])
        return found.get(self.metric)

    def pairs(self, wanted: Sequence[tuple[Label, Label]]) -> list[Pair | None]:
        """Each first label less the second, adjusted together by Holm; None where one has no runs."""
        known = [(one, other) for one, other in wanted if self.runs.get(one) and self.runs.get(other)]
        found = adjusted(
            [pair_cells(self._field, self._cell(one), self._cell(other)) for one, other in known]
        )
        by_labels = dict(zip(known, found, strict=True))
        return [by_labels.get(labels) for labels in wanted]

    def design(self, first: Label, second: Label) -> Design | None:
        """What makes the difference of two labels vary."""
        return design_of(self._field, self._cell(first), self._cell(second))

    @cached_property
    def _field(self) -> Field:
        return Field(
            runs=self._all,
            places={_key(label): places for label, places in self._places.items()},
            rows=self.rows,
            evidence=self._evidence,
            swapped_NK=None,
        )

    @cached_property
    def _all(self) -> list[Run]:
        return [run for of_label in self.runs.values() for run in of_label]

    @cached_property
    def _places(self) -> dict[Label, Indices]:
        counts = [len(of_label) for of_label in self.runs.values()]
        ends = np.cumsum(counts)
        return {
            label: np.arange(end - count, end)
            for label, count, end in zip(self.runs, counts, ends, strict=True)
        }

    @cached_property
    def _evidence(self) -> Evidence:
        cell_R = np.repeat(np.arange(len(self.runs)), [len(of_label) for of_label in self.runs.values()])
        return gather(self._all, cell_R, self.rows, metric_named(self.metric))

    def _cell(self, label: Label) -> Cell:
        runs = tuple(self.runs[label])
        return Cell(
            key=_key(label),
            method=runs[0].method,
            task=runs[0].task,
            settings={},
            runs=runs,
            scores={},
            cost=Cost(),
        )


def _key(label: Label) -> str:
    return " / ".join(label)


def score_text(score: CellScore | None) -> str:
    """Mean ± deviation and the mean's 95 % interval."""
    if score is None:
        return NOT_RUN
    spread = "" if score.std is None else f" ± {score.std:.3f}"
    ends = score.interval
    return f"{score.mean:.3f}{spread}" + (f" \\[{ends.low:.3f}, {ends.high:.3f}]" if ends else "")


def matrix(groups: Groups, *, corner: str, rows: Sequence[str], columns: Sequence[str]) -> str:
    """A table of scores: a line for each row, a column for each column."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for row in rows:
        cells = [score_text(groups.score((row, column))) for column in columns]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A difference that a table asks for, and its words."""

    words: str
    first: Label
    second: Label


def differences(groups: Groups, questions: Sequence[Question]) -> str:
    """A line for each question: the difference, its interval, and whether it is one."""
    lines = [
        "| question | difference | 95 % interval | p (Holm) | pairs | answer |",
        "|---|---:|---:|---:|---:|---|",
    ]
    pairs = groups.pairs([(one.first, one.second) for one in questions])
    for question, pair in zip(questions, pairs, strict=True):
        if pair is None:
            lines.append(f"| {question.words} | {NOT_RUN} | | | | |")
            continue
        ends, p = pair.interval, pair.p_holm
        interval = "" if ends is None else f"\\[{ends.low:+.3f}, {ends.high:+.3f}]"
        holm = "" if p is None else ("\\<.001" if p < 0.001 else f"{p:.3f}".lstrip("0"))
        answer = "no significant difference"
        if pair.distinguishable:
            answer = "yes" if pair.difference > 0 else "no: the other is ahead"
        lines.append(
            f"| {question.words} | {pair.difference:+.3f} | {interval} | {holm} | {pair.n} | {answer} |"
        )
    return "\n".join(lines) + "\n"


ABOUT = (
    "Macro-F1 on test tweets, the mean ± sample standard deviation over runs; in brackets the mean's 95 % "
    "interval, for new runs on new rows. Differences are paired by seed and draw of labels where both "
    "have such runs.\n"
)


def published(path: Path) -> str:
    """A paper.csv as a table: what the paper printed, and whether it was checked against the source."""
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    lines = ["| arXiv | table | row | column | published | read |", "|---|---|---|---|---:|---|"]
    lines += [
        f"| {one['arxiv']} | {one['table']} | {one['row']} | {one['column']} | {one['value']} | "
        f"{one['checked']} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"
