"""The most frequent class for every row: what any method has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from softcue.baselines.base import TextClassifier


class Plurality(TextClassifier):
    """The classes' shares of the training rows as the probabilities of every row, whatever its text."""

    share_C: NDArray[np.float64]

    def fit(self, texts: Sequence[str], targets: Sequence[int]) -> None:
        self.share_C = np.bincount(targets) / len(targets)

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.tile(self.share_C, (len(texts), 1))

    @property
    def num_parameters(self) -> int:
        return len(self.share_C)
