"""Two cells of a task compared: difference, interval, tests, and what would settle them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from softcue.report.evidence import Evidence, factors, outcomes, sample
from softcue.report.model import Cell, Interval, McNemar, Pair, Power, Run, Sources, TaskRows
from softcue.statistics.estimates import Estimate, estimate_difference, estimate_mean
from softcue.statistics.hypotheses import (
    holm,
    mcnemar_p,
    probability_of_improvement,
    row_permutation_p,
    sign_flip_p,
)
from softcue.statistics.outcomes import Floats, Indices, Weights, count_score_named
from softcue.statistics.power import Design


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """Everything that pairs of one task are made from: its runs, where each cell's are, and one metric."""

    runs: Sequence[Run]
    places: dict[str, Indices]
    rows: TaskRows | None
    evidence: Evidence
    swapped_NK: Weights | None


def pair_cells(field: Field, first: Cell, second: Cell) -> Pair:
    """Compare two cells; the p-value for the family is that of `adjusted`."""
    at_first, at_second = field.places[first.key], field.places[second.key]
    matched = _matched(field.runs, at_first, at_second)
    if matched is None:
        estimate, design = _unpaired(field, at_first, at_second)
        n = min(len(at_first), len(at_second))
    else:
        at_first, at_second = matched
        estimate, design = _paired(field, at_first, at_second)
        n = len(at_first)
    higher = field.evidence.metric.higher_is_better
    ahead = (estimate.value > 0) == higher
    return Pair(
        task=first.task,
        metric=field.evidence.metric.name,
        first=first.key,
        second=second.key,
        difference=estimate.value,
        interval=interval_of(estimate, n),
        better=first.key if ahead else second.key,
        paired=matched is not None,
        n=n,
        rows=min((rows for rows in (first.rows, second.rows) if rows is not None), default=None),
        p=estimate.p,
        p_holm=None,
        p_rows=_row_p(field, at_first, at_second) if matched else None,
        p_seeds=_seed_p(field, at_first, at_second) if matched and n > 1 else None,
        mcnemar=_mcnemar(field, at_first, at_second) if matched and n == 1 else None,
        probability_of_improvement=probability_of_improvement(
            field.evidence.score_RK[field.places[first.key]],
            field.evidence.score_RK[field.places[second.key]],
            higher_is_better=higher,
        ),
        power=_power(design),
    )


def design_of(field: Field, first: Cell, second: Cell) -> Design | None:
    """What makes the difference of two cells vary, over runs and rows; None if nothing is known of it."""
    at_first, at_second = field.places[first.key], field.places[second.key]
    matched = _matched(field.runs, at_first, at_second)
    return _unpaired(field, at_first, at_second)[1] if matched is None else _paired(field, *matched)[1]


def adjusted(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with p-values adjusted by Holm for all of them that have one."""
    tested = [pair.p for pair in pairs if pair.p is not None]
    of_family = iter(holm(tested))
    return [replace(pair, p_holm=None if pair.p is None else next(of_family)) for pair in pairs]


def interval_of(estimate: Estimate, count: int) -> Interval | None:
    """The 95 % interval of an estimate over some runs, and what it contains."""
    ends = estimate.interval()
    if ends is None:
        return None
    sources: Sources = "runs and rows"
    if estimate.rows is None or estimate.runs is None:
        sources = "runs" if estimate.rows is None else "rows"
    return Interval(low=ends[0], high=ends[1], sources=sources)


def _matched(runs: Sequence[Run], first: Indices, second: Indices) -> tuple[Indices, Indices] | None:
    """The runs with the same replicate, if each run of the smaller cell has one that no other has.

    Two single runs are always a pair: their rows are.
    """
    if len(first) == len(second) == 1:
        return first, second
    ours, theirs = (
        {tuple(runs[at].replicate.items()): int(at) for at in places} for places in (first, second)
    )
    common = [key for key in ours if key and key in theirs]
    unique = len(ours) == len(first) and len(theirs) == len(second)
    if not unique or len(common) < max(2, min(len(first), len(second))):
        return None
    return np.array([ours[key] for key in common]), np.array([theirs[key] for key in common])


def _paired(field: Field, first: Indices, second: Indices) -> tuple[Estimate, Design | None]:
    covariance = field.evidence.covariance_RR
    difference_P = field.evidence.score_R[first] - field.evidence.score_R[second]
    covariance_PP = (
        covariance[np.ix_(first, first)]
        + covariance[np.ix_(second, second)]
        - covariance[np.ix_(first, second)]
        - covariance[np.ix_(second, first)]
    )
    known = None if np.isnan(covariance_PP).any() else covariance_PP
    rows = _num_rows(field, [*first, *second])
    estimate = estimate_mean(
        difference_P, known, num_rows=rows, factors_FP=factors([field.runs[at] for at in first])
    )
    return estimate, _design(estimate, [known], num_runs=len(first), num_rows=rows)


def _unpaired(field: Field, first: Indices, second: Indices) -> tuple[Estimate, Design | None]:
    samples = [sample(field.evidence, field.runs, at) for at in (first, second)]
    cross_PQ = field.evidence.covariance_RR[np.ix_(first, second)]
    known = None if np.isnan(cross_PQ).any() else cross_PQ
    rows = _num_rows(field, [*first, *second])
    estimate = estimate_difference(samples[0], samples[1], known, num_rows=rows)
    effective = 2 / (1 / len(first) + 1 / len(second))
    matrices = [one.covariance_PP for one in samples]
    return estimate, _design(estimate, matrices, num_runs=round(effective), num_rows=rows)


def _design(
    estimate: Estimate, matrices: Sequence[Floats | None], *, num_runs: int, num_rows: int | None
) -> Design | None:
    """What makes a run's difference vary; None if nothing is known of it."""
    if estimate.variance is None:
        return None
    of_run = (estimate.runs or 0.0) * num_runs
    shared, own = estimate.rows or 0.0, 0.0
    if estimate.rows is not None and num_runs > 1:
        diagonal = sum(float(np.trace(one)) / len(one) for one in matrices if one is not None)
        together = sum(_off_diagonal(one) for one in matrices if one is not None)
        own = min(of_run, max(0.0, diagonal - together))
    return Design(
        difference=estimate.value,
        between_runs=of_run - own,
        shared=shared,
        own=own,
        runs=num_runs,
        rows=num_rows or 0,
    )


def _off_diagonal(matrix_PP: Floats) -> float:
    count = len(matrix_PP)
    if count == 1:
        return float(matrix_PP[0, 0])
    return float(matrix_PP.sum() - np.trace(matrix_PP)) / (count * (count - 1))


def _power(design: Design | None) -> Power | None:
    if design is None or design.difference == 0:
        return None
    of_rows = design.shared + design.own > 0 and design.rows > 0
    return Power(
        rows=design.rows_needed() if of_rows else None,
        seeds=design.runs_needed() if design.runs > 1 else None,
    )


def _num_rows(field: Field, places: Sequence[int]) -> int | None:
    return min((rows for at in places if (rows := field.runs[at].rows) is not None), default=None)


def _row_p(field: Field, first: Indices, second: Indices) -> float | None:
    if field.rows is None or field.swapped_NK is None or not _same_rows(field.runs, first, second):
        return None
    score = count_score_named(field.evidence.metric.name, field.rows.classes)
    if score is None:
        return None
    pairs = [
        (outcomes(field.runs[one], field.rows), outcomes(field.runs[other], field.rows))
        for one, other in zip(first, second, strict=True)
    ]
    return row_permutation_p(pairs, score, field.swapped_NK)


def _seed_p(field: Field, first: Indices, second: Indices) -> float:
    return sign_flip_p(field.evidence.score_R[first] - field.evidence.score_R[second])


def _mcnemar(field: Field, first: Indices, second: Indices) -> McNemar | None:
    if field.rows is None or not _same_rows(field.runs, first, second):
        return None
    one, other = (outcomes(field.runs[at[0]], field.rows) for at in (first, second))
    right, right_other = one.predicted_B == one.target_B, other.predicted_B == other.target_B
    only_first, only_second = int((right & ~right_other).sum()), int((right_other & ~right).sum())
    return McNemar(only_first=only_first, only_second=only_second, p=mcnemar_p(only_first, only_second))


def _same_rows(runs: Sequence[Run], first: Indices, second: Indices) -> bool:
    predictions = [
        (runs[one].predictions, runs[other].predictions) for one, other in zip(first, second, strict=True)
    ]
    return all(
        one is not None and other is not None and np.array_equal(one.row_B, other.row_B)
        for one, other in predictions
    )
