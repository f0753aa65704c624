"""What new test rows would do to the scores of runs: their covariance, by a bootstrap over rows.

All runs are scored on the same resamples, so that what two runs have in common stays in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softcue.statistics.outcomes import Floats, Outcomes, Score, Weights

NUM_RESAMPLES = 2000
"""A standard error is then within 1.6 % of what more resamples would give."""

LEAST_RESAMPLES = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Resampled:
    """The scores of R runs on their own rows, and under K resamples of the task's rows.

    `covariance_RR` is that of the scores over resamples: 0 for two runs without a common row.
    """

    score_R: Floats
    score_RK: Floats
    covariance_RR: Floats


def resample(
    runs: Sequence[Outcomes], score: Score, *, num_rows: int, seed: int, budget: float = 1e9
) -> Resampled:
    """Score runs on bootstrap resamples of the task's `num_rows` rows.

    NUM_RESAMPLES are made, fewer if the runs' rows times resamples exceed `budget`. A resample in which a
    score does not exist, such as AUROC with one class, is left out of the covariance.
    """
    size = sum(len(run.row_B) for run in runs)
    count = int(np.clip(budget / max(size, 1), LEAST_RESAMPLES, NUM_RESAMPLES))
    resampled_NK = row_weights(num_rows, count=count, seed=seed)
    # The rows as they are come first, so that each run's classes are counted once.
    weights_NK = np.concatenate([np.ones((num_rows, 1), dtype=np.float32), resampled_NK], axis=1)
    scored_RK = np.stack([score(run, weights_of(run, weights_NK)) for run in runs])
    score_R, score_RK = scored_RK[:, 0], scored_RK[:, 1:]
    whole_RK = score_RK[:, np.isfinite(score_RK).all(axis=0)]
    unknown = whole_RK.shape[1] < 2
    noisy_RR = np.full((len(runs),) * 2, np.nan) if unknown else np.atleast_2d(np.cov(whole_RK))
    # Without a common row, what is left of the covariance is the noise of the resamples.
    covariance_RR = np.where(overlap(runs), noisy_RR, 0.0)
    return Resampled(score_R=score_R, score_RK=score_RK, covariance_RR=covariance_RR)


def row_weights(num_rows: int, *, count: int, seed: int) -> Weights:
    """How often each of N rows is drawn in each of K resamples of N rows."""
    generator = np.random.default_rng(seed)
    drawn_KN = generator.multinomial(num_rows, np.full(num_rows, 1 / num_rows), size=count)
    return np.ascontiguousarray(drawn_KN.T, dtype=np.float32)


def weights_of(run: Outcomes, weights_NK: Weights) -> Weights:
    """The weights of a run's own rows."""
    return weights_NK if len(run.row_B) == len(weights_NK) else weights_NK[run.row_B]


def overlap(runs: Sequence[Outcomes]) -> NDArray[np.bool_]:
    """Which two runs [R, R] have a row in common."""
    sets: dict[bytes, int] = {}
    set_R = np.array([sets.setdefault(run.row_B.tobytes(), len(sets)) for run in runs])
    rows = [frozenset(np.frombuffer(of, dtype=np.int64).tolist()) for of in sets]
    common = np.array([[not one.isdisjoint(other) for other in rows] for one in rows])
    return np.asarray(common[np.ix_(set_R, set_R)])
