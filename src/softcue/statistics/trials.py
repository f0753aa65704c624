"""What the best of k trials is worth (Dodge et al. 2019), drawn without replacement (Tang et al. 2020)."""

from __future__ import annotations

import numpy as np
from scipy import special

from softcue.statistics.outcomes import Floats


def expected_best(validation_T: Floats, shown_T: Floats, *, higher_is_better: bool) -> tuple[Floats, Floats]:
    """For k = 1 … T: the expected best validation score of k trials, and the chosen trial's other score."""
    order = np.argsort(validation_T if higher_is_better else -validation_T, kind="stable")
    chosen_KT = chance_of_being_best(len(order))
    return chosen_KT @ validation_T[order], chosen_KT @ shown_T[order]


def chance_of_being_best(count: int) -> Floats:
    """The probability [k, i] that of k trials out of `count`, the one with i worse ones is the best."""
    k, worse = np.arange(1, count + 1)[:, None], np.arange(count)[None, :]
    return np.asarray(special.comb(worse, k - 1) / special.comb(count, k))
