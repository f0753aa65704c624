"""The types of a comparison: what the statistics fill, and tables, plots and the page read.

All values are plain Python or numpy. A `Comparison` has a `TaskComparison` for each task, which has its
cells (a method with its settings, over runs), the pairs of cells, and the sentences that they support.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softcue.runs.metrics import Metric
from softcue.runs.record import RunRecord

Sources = Literal["runs and rows", "runs", "rows", "binomial", "none"]
"""The variation that an interval contains; "binomial" is that of rows, from a score and their number."""


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """A name for each setting: the last part of its path, or the last two where several end alike.

    A class has the name of the setting that it fills, as initialiser for prompt.method.initialiser._target_.
    """
    parts = {path: path.removesuffix("._target_").split(".") for path in paths}
    ends = [of_path[-1] for of_path in parts.values()]
    return {
        path: end if ends.count(end) == 1 else ".".join(of_path[-2:])
        for (path, of_path), end in zip(parts.items(), ends, strict=True)
    }


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % confidence interval, and the variation that it contains."""

    low: float
    high: float
    sources: Sources = "runs and rows"

    def contains(self, value: float) -> bool:
        """Whether a value lies in the interval, its ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskRows:
    """The N rows of a task's part, over all runs that predicted some of them.

    `target_N` is each row's true class, -1 without a label. A text is None where no run has stored it.
    """

    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    target_N: NDArray[np.int64]
    classes: tuple[str, ...]

    def label(self, row: int) -> str | None:
        """A row's true class by name, None without a label."""
        target = int(self.target_N[row])
        return self.classes[target] if target >= 0 else None


@dataclass(frozen=True, kw_only=True, eq=False)
class RunPredictions:
    """What one run predicted for B of its task's rows.

    `row_B` are indices into `TaskRows`, ascending; `predicted_B` the most likely class of each, as the run
    recorded it; `probability_BC` the probability of each class, which sums to 1. `nll_B` is the right
    label's negative log-likelihood in nats, NaN where unknown.
    """

    row_B: NDArray[np.int64]
    predicted_B: NDArray[np.int64]
    probability_BC: NDArray[np.float64]
    nll_B: NDArray[np.float64]

    @property
    def confidence_B(self) -> NDArray[np.float64]:
        """The probability of the most likely class."""
        return np.asarray(self.probability_BC.max(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A learning curve: values of a logged number, such as "train/loss", at training steps."""

    name: str
    step_S: NDArray[np.float64]
    value_S: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run, or the mean run of a cell, took; None where it is not known.

    Counts of numbers, bytes of the shipped prompt's numbers, seconds, and units of 10^6 bytes.
    """

    trainable_parameters: int | None = None
    shipped_parameters: int | None = None
    total_parameters: int | None = None
    shipped_bytes: int | None = None
    train_s: float | None = None
    evaluate_s: float | None = None
    total_s: float | None = None
    process_memory_mb: float | None = None
    gpu_memory_mb: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run's scores on a part, with what the record says about it.

    `origin` is "" for a run of softcue, and otherwise the file that somebody else's score was read from.
    `replicate` names what runs of one cell differ in, such as {"seed": "3", "split.fold": "0"}: runs of two
    cells with the same replicate are a pair. `rows` is the number of rows that were scored, None if unknown.
    `facts` is what it ran on: versions of packages, "dtype", "engine", "cpu", "gpu", "backbone",
    "training rows". `record` and `folder` are None for other people's runs.
    """

    run_id: str
    method: str
    task: str
    replicate: Mapping[str, str]
    scores: Mapping[str, float]
    rows: int | None
    predictions: RunPredictions | None
    cost: Cost
    facts: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    record: RunRecord | None = None
    folder: Path | None = None
    curves: tuple[Curve, ...] = ()

    @property
    def name(self) -> str:
        """The run in a few words, such as "prompt_tuning, seed 3, split.fold 0"."""
        return ", ".join([self.method, *(f"{name} {value}" for name, value in self.replicate.items())])


@dataclass(frozen=True, kw_only=True)
class CellScore:
    """One metric of a cell over its runs.

    `values` has a score for each run that has the metric, in the order of the cell's runs; `std` is their
    sample standard deviation, None for one. `interval` is that of the mean, for a new run on new rows; None
    where nothing can be said.
    """

    metric: str
    values: tuple[float, ...]
    mean: float
    std: float | None
    interval: Interval | None

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """A method with one choice of settings on one task, over seeds, folds and draws of labels.

    `settings` has every setting in which this task's cells of this method differ; a value is the text for a
    table. `trials` is the number of settings of the method that were compared to choose from, 1 without any.
    `distinguishable` says whether the best cell is ahead of this one beyond doubt by the metric of the sort;
    None for the best itself and where there is no test.
    """

    key: str
    method: str
    task: str
    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    scores: Mapping[str, CellScore]
    cost: Cost
    trials: int = 1
    distinguishable: bool | None = None

    @property
    def label(self) -> str:
        """The cell's name on one line: the method, and its settings where they differ."""
        names = short_names(self.settings)
        return ", ".join([self.method, *(f"{names[path]}={value}" for path, value in self.settings.items())])

    @property
    def theirs(self) -> bool:
        """Whether the scores are somebody else's."""
        return self.origin is not None

    @property
    def origin(self) -> str | None:
        """The files of somebody else's scores; None for softcue's own."""
        return ", ".join(dict.fromkeys(run.origin for run in self.runs if run.origin)) or None

    @property
    def rows(self) -> int | None:
        """The number of rows that one run was scored on, the lowest where runs differ."""
        return min((run.rows for run in self.runs if run.rows is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """McNemar's test of two single runs on the same rows.

    `only_first` and `only_second` count the rows that one of them has right and the other wrong. The test
    is the exact binomial one.
    """

    only_first: int
    only_second: int
    p: float


@dataclass(frozen=True, kw_only=True)
class Power:
    """What would settle a pair, if the difference is as large as it was measured, with power 0.8.

    `rows` is the number of test rows that would do with as many runs as now, `seeds` the number of runs with
    as many rows as now. None: no number up to the limit does, as when seeds vary too much for more rows to
    help; or the records do not say.
    """

    rows: int | None
    seeds: int | None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two cells of a task compared by one metric.

    `first` and `second` are keys of cells. `difference` is the first's mean less the second's, over the
    replicates that both have if `paired`, in the metric's own direction: `better` names the better cell.
    `p` tests that it is 0 for new runs on new rows; `p_holm` is that, adjusted for all pairs of the family
    shown. `p_rows` is a paired permutation test that exchanges the two methods' predictions of a row, over
    all seeds together: it asks only whether these very runs differ. `p_seeds` is the exact sign-flip test
    over paired runs. `probability_of_improvement` is that of a run of the first cell being better than one
    of the second. A test is None where the records do not allow it.
    """

    task: str
    metric: str
    first: str
    second: str
    difference: float
    interval: Interval | None
    better: str
    paired: bool
    n: int
    rows: int | None
    p: float | None
    p_holm: float | None
    p_rows: float | None
    p_seeds: float | None
    mcnemar: McNemar | None
    probability_of_improvement: float
    power: Power | None

    @property
    def distinguishable(self) -> bool:
        """Whether the adjusted p-value is below .05."""
        return self.p_holm is not None and self.p_holm < 0.05


@dataclass(frozen=True, kw_only=True)
class BestOfK:
    """What the best of k trials of a method is worth: chosen by validation rows, and then on the part shown.

    Entry k - 1 is the expectation over all draws of k of the method's `trials` settings (Dodge et al. 2019,
    without replacement as in Tang et al. 2020).
    """

    task: str
    method: str
    metric: str
    trials: int
    validation: tuple[float, ...]
    shown: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Methods over several tasks: mean ranks, 1 the best, with Nemenyi's critical difference (Demšar 2006).

    `p` is the Friedman test's. Methods in one of `groups` are not further apart than the critical difference.
    """

    metric: str
    tasks: tuple[str, ...]
    mean_rank: Mapping[str, float]
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that the statistics support, about cells named by their keys."""

    text: str
    metric: str
    cells: tuple[str, ...]
    kind: Literal["ahead", "undecided", "single", "ranks"]


@dataclass(frozen=True, kw_only=True)
class Caution:
    """Something that weakens the comparison.

    `kind` groups cautions, such as "versions"; `cells` are keys, none if all cells are meant.
    """

    kind: str
    text: str
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskComparison:
    """All cells of one task on one part, the best first by the metric of the sort.

    `settings` are the paths that some cell has, in the order of columns. `pairs` has every two cells, the
    higher-placed one first, for the metric of the sort; with many cells, only those with the best, and
    `all_pairs` is then False. `rows` is None if no run has predictions.
    """

    task: str
    backbones: tuple[str, ...]
    cells: tuple[Cell, ...]
    settings: tuple[str, ...]
    rows: TaskRows | None
    pairs: tuple[Pair, ...]
    all_pairs: bool
    claims: tuple[Claim, ...]
    cautions: tuple[Caution, ...]
    best_of_k: tuple[BestOfK, ...] = ()

    @property
    def best(self) -> Cell:
        """The cell with the best mean."""
        return self.cells[0]

    @cached_property
    def by_key(self) -> Mapping[str, Cell]:
        """The cells by their key."""
        return {cell.key: cell for cell in self.cells}

    def pair(self, first: str, second: str) -> Pair | None:
        """The pair of two cells in either order, as it is stored; None if it was not tested."""
        keys = {first, second}
        return next((pair for pair in self.pairs if {pair.first, pair.second} == keys), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Everything that a report shows.

    `metrics` are the shown ones, `sort_by` that of order, pairs and claims. `notes` has a line for each
    record that was left out, and why: failed, unfinished, unreadable, foreign. `sources` are the folders and
    files that were read.
    """

    part: str
    metrics: tuple[Metric, ...]
    sort_by: Metric
    tasks: tuple[TaskComparison, ...]
    sources: tuple[str, ...]
    ranks: Ranks | None = None
    claims: tuple[Claim, ...] = ()
    cautions: tuple[Caution, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def title(self) -> str:
        """Tasks, backbones and part on one line."""
        tasks = ", ".join(task.task for task in self.tasks)
        backbones = ", ".join(sorted({name for task in self.tasks for name in task.backbones}))
        return " · ".join(words for words in (tasks, backbones, self.part) if words)

    @property
    def all_claims(self) -> tuple[Claim, ...]:
        """Those over all tasks, then each task's."""
        return (*self.claims, *(claim for task in self.tasks for claim in task.claims))

    @property
    def all_cautions(self) -> tuple[Caution, ...]:
        """Those over all tasks, then each task's."""
        return (*self.cautions, *(caution for task in self.tasks for caution in task.cautions))
