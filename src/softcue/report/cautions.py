"""What weakens a comparison. A further caution is one more function in CHECKS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from softcue.report.evidence import factors, outcomes
from softcue.report.model import Caution, Cell, Ranks, Run, TaskComparison
from softcue.report.runs import Loaded
from softcue.runs.metrics import Metric
from softcue.statistics.estimates import fixed_factors
from softcue.statistics.outcomes import score_named
from softcue.statistics.ranks import LEAST_TASKS

FEW_RUNS = 5
"""With fewer runs, the variation between runs is hardly known."""
FEW_ROWS = 100

_VERSIONS = (
    "softcue",
    "torch",
    "transformers",
    "tokenizers",
    "lightning",
    "torchmetrics",
    "scikit-learn",
    "peft",
)
_SHARED = ("data.", "split.", "backbone.", "scoring.")
"""Settings that should agree between methods."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A task's comparison with the records behind it."""

    task: TaskComparison
    loaded: Sequence[Loaded]
    part: str
    metric: Metric

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for cell in self.task.cells for run in cell.runs]


def task_cautions(
    task: TaskComparison, loaded: Sequence[Loaded], part: str, metric: Metric
) -> tuple[Caution, ...]:
    """Everything that weakens a task's comparison."""
    case = Case(task=task, loaded=loaded, part=part, metric=metric)
    return tuple(caution for check in CHECKS for caution in check(case))


def over_tasks(tasks: Sequence[TaskComparison], ranks: Ranks | None) -> tuple[Caution, ...]:
    """What weakens a comparison over tasks."""
    if 1 < len(tasks) < LEAST_TASKS and ranks is None:
        text = f"{len(tasks)} tasks are too few for ranks over tasks, which need {LEAST_TASKS}."
        return (Caution(kind="ranks", text=text),)
    return ()


def few_runs(case: Case) -> Iterator[Caution]:
    """Cells whose variation between runs is unknown or hardly known."""
    cells = [cell for cell in case.task.cells if case.metric.name in cell.scores and not _fixed(cell)]
    single = [cell for cell in cells if cell.scores[case.metric.name].n == 1]
    if single:
        text = f"one run each, so that other seeds may change the order: {_labels(single)}."
        yield Caution(kind="runs", text=text, cells=_keys(single))
    few = [cell for cell in cells if 1 < cell.scores[case.metric.name].n < FEW_RUNS]
    if few:
        text = f"fewer than {FEW_RUNS} runs, so that intervals are wide: {_labels(few)}."
        yield Caution(kind="runs", text=text, cells=_keys(few))


def two_levels(case: Case) -> Iterator[Caution]:
    """Draws of labels, seeds or folds that intervals do not go beyond, since there are two of them."""
    cells: dict[str, list[Cell]] = {}
    for cell in case.task.cells:
        names = list(dict.fromkeys(name for run in cell.runs for name in run.replicate))
        levels_FP = factors(cell.runs)
        for at in [] if levels_FP is None else fixed_factors(levels_FP):
            cells.setdefault(names[at], []).append(cell)
    for name, those in cells.items():
        text = (
            f"{name} has two values: intervals are for new runs and rows with these two, not for other "
            f"values; add a third: {_labels(those)}."
        )
        yield Caution(kind="runs", text=text, cells=_keys(those))


def few_rows(case: Case) -> Iterator[Caution]:
    """Scores on few rows."""
    cells = [cell for cell in case.task.cells if cell.rows is not None and cell.rows < FEW_ROWS]
    if cells:
        least = min(cell.rows for cell in cells if cell.rows is not None)
        text = f"scored on {least} rows: differences below {1 / least**0.5:.2f} are within the noise of rows."
        yield Caution(kind="rows", text=text, cells=_keys(cells))


def without_rows(case: Case) -> Iterator[Caution]:
    """Cells whose intervals know nothing of the rows."""
    cells = [
        cell
        for cell in case.task.cells
        if (score := cell.scores.get(case.metric.name)) is not None
        and (score.interval is None or score.interval.sources == "runs")
    ]
    if cells:
        text = (
            f"without predictions of rows that determine {case.metric.title}, so that intervals lack the "
            f"variation of rows: {_labels(cells)}."
        )
        yield Caution(kind="rows", text=text, cells=_keys(cells))


def missing_runs(case: Case) -> Iterator[Caution]:
    """Seeds or folds that some cells have and others lack."""
    ours = [cell for cell in case.task.cells if not cell.theirs]
    several = [cell for cell in ours if len(cell.runs) > 1]
    everything = dict.fromkeys(tuple(run.replicate.items()) for cell in several for run in cell.runs)
    for cell in ours:
        own = {tuple(run.replicate.items()) for run in cell.runs}
        missing = [key for key in everything if key not in own]
        if missing and not (len(cell.runs) == 1 and _fixed(cell)):
            # By their numbers, of which 2 comes before 10.
            missing.sort(key=lambda key: [(name, len(value), value) for name, value in key])
            names = [", ".join(f"{name} {value}" for name, value in key) for key in missing]
            text = f"{cell.label} lacks runs that others have: {_few(names)}."
            yield Caution(kind="missing", text=text, cells=(cell.key,))


def unequal_budgets(case: Case) -> Iterator[Caution]:
    """Methods of which more settings were tried than of others."""
    trials = {cell.method: cell.trials for cell in case.task.cells if not _fixed(cell)}
    if len(set(trials.values())) > 1:
        text = f"unequal numbers of settings were tried: {_counts(trials)}."
        yield Caution(kind="budget", text=text)


def selected_on_shown(case: Case) -> Iterator[Caution]:
    """Choices that saw the rows that scores are shown for."""
    watched = [
        run
        for run in case.runs
        if run.record
        and run.record.training
        and (run.record.training.monitor or "").startswith(f"{case.part}/")
    ]
    if watched and case.part == "test":
        runs = "1 run" if len(watched) == 1 else f"{len(watched)} runs"
        text = f"{runs} kept the checkpoint that was best on the test rows themselves."
        yield Caution(kind="selection", text=text)
    tried = {cell.method: cell.trials for cell in case.task.cells if cell.trials > 1}
    if tried and case.part == "test":
        text = (
            f"the best of several settings on test rows is too good by selection ({_counts(tried)}); choose "
            "by validation rows, as sweep=equal_budget does."
        )
        yield Caution(kind="selection", text=text)


def differing_facts(case: Case) -> Iterator[Caution]:
    """Versions, number types, engines, machines or data that differ between runs."""
    for kind, names in _FACTS.items():
        for name in names:
            found: dict[str, dict[str, None]] = {}
            for run in case.runs:
                if name in run.facts:
                    found.setdefault(run.facts[name], {})[run.method] = None
            if len(found) > 1:
                values = "; ".join(f"{value} ({', '.join(methods)})" for value, methods in found.items())
                yield Caution(kind=kind, text=f"{name} differs: {values}.")


_FACTS: Mapping[str, Sequence[str]] = {
    "versions": _VERSIONS,
    "dtype": ("dtype",),
    "engine": ("engine",),
    "hardware": ("cpu", "gpu"),
    "backbone": ("backbone",),
    "data": ("data", "training rows"),
}


def differing_settings(case: Case) -> Iterator[Caution]:
    """Settings of data, split, frozen model and scoring in which methods differ."""
    first: dict[str, tuple[str, object]] = {}
    differ: dict[str, None] = {}
    for one in case.loaded:
        for path, value in one.variant.common.items():
            if path.startswith(_SHARED):
                method, other = first.setdefault(path, (one.run.method, value))
                if method != one.run.method and other != value:
                    differ[path] = None
    if differ:
        yield Caution(kind="settings", text=f"methods differ in more than the method: {_few(list(differ))}.")


def other_predictions(case: Case) -> Iterator[Caution]:
    """Runs whose predictions do not give the score that their record has."""
    rows = case.task.rows
    score = score_named(case.metric.name, rows.classes) if rows is not None else None
    if rows is None or score is None:
        return
    for run in case.runs:
        if run.predictions is not None and case.metric.name in run.scores:
            weights = np.ones((len(run.predictions.row_B), 1), dtype=np.float32)
            found, recorded = float(score(outcomes(run, rows), weights)[0]), run.scores[case.metric.name]
            if abs(found - recorded) > 1e-3:
                text = (
                    f"{run.run_id} has {case.metric.title} {recorded:.4f} in its record, and {found:.4f} by "
                    "its predictions."
                )
                yield Caution(kind="predictions", text=text)


CHECKS: Sequence[Callable[[Case], Iterator[Caution]]] = (
    few_runs,
    two_levels,
    few_rows,
    without_rows,
    missing_runs,
    unequal_budgets,
    selected_on_shown,
    differing_settings,
    differing_facts,
    other_predictions,
)


def _fixed(cell: Cell) -> bool:
    return cell.cost.trainable_parameters == 0


def _labels(cells: Sequence[Cell]) -> str:
    return _few([cell.label for cell in cells])


def _few(names: Sequence[str]) -> str:
    return "; ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tuple(cell.key for cell in cells)


def _counts(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in numbers.items())
