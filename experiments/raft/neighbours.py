"""The most similar labelled tweets in front of each, beside the prompt (Liu et al. 2022, 2101.06804)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from softcue.baselines.in_context import InContext
from softcue.data.columns import Columns, digest_of
from softcue.data.pool import Pool
from softcue.data.sources import Raft
from softcue.data.splits import Splitter
from softcue.data.task import Task
from softcue.data.template import TASK_KEY, Column, Words, parse

COLUMN = "neighbours"


@dataclass(frozen=True, kw_only=True)
class Neighbours(Raft):
    """RAFT's rows with a column "neighbours": `num_neighbours` training rows in the task's own template.

    `split` says which rows train, so that no other row's label is ever read. The most similar row, by the
    cosine of TF-IDF vectors, comes last; a training row is not its own neighbour.
    """

    split: Splitter
    num_neighbours: int

    def load(self, task: Task) -> Pool:
        alone = replace(task, template=task.template.replace(f"{{{COLUMN}}}", ""))
        pool = super().load(alone)
        train = self.split.split(pool, task.classes).train
        labelled, unlabelled = (self._beside(rows, train, alone) for rows in (pool.labelled, pool.unlabelled))
        return Pool(
            labelled=labelled,
            held_out=None,
            unlabelled=unlabelled,
            fingerprint=digest_of([pool.fingerprint, labelled.digest, unlabelled.digest])[:16],
        )

    def _beside(self, rows: Columns, train: Columns, task: Task) -> Columns:
        chooser = InContext(num_rows=None, order="nearest", separator="\n\n", seed=0)
        shown = [f"{_words(row, task)} {task.verbalizer[row['label']]}\n\n" for row in train.rows()]
        known = {name: at for at, name in enumerate(train["id"])}
        texts = [
            "\n".join(row[name] for name in task.columns) for part in (train, rows) for row in part.rows()
        ]
        ranking_BN = chooser.ranking(texts[: len(train)], texts[len(train) :])
        fronts = []
        for name, ranking_N in zip(rows["id"], ranking_BN, strict=True):
            others = ranking_N[ranking_N != known.get(name, -1)]
            fronts.append("".join(shown[at] for at in np.flip(others[: self.num_neighbours])))
        return Columns(by_name={**rows.by_name, COLUMN: fronts})


def _words(row: dict[str, str], task: Task) -> str:
    parts = parse(task.template, key=TASK_KEY).segments
    return "".join(
        part.text if isinstance(part, Words) else row[part.name] if isinstance(part, Column) else ""
        for part in parts
    )
