"""In-context learning (Brown et al. 2020): labelled rows in front of a row, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from softcue.baselines.base import Baseline


class InContext(Baseline):
    """Chooses the labelled rows that come before a row, `num_rows` at most, or as many as fit.

    With order "seed" they are the same for every row, in an order that the run's seed draws. With "nearest"
    they are those most similar to the row, by the cosine of TF-IDF vectors; the most similar comes last
    (Liu et al. 2022).
    """

    def __init__(
        self, *, num_rows: int | None, order: Literal["seed", "nearest"], separator: str, seed: int
    ) -> None:
        self.num_rows, self.order, self.separator, self.seed = num_rows, order, separator, seed

    def ranking(self, labelled: Sequence[str], texts: Sequence[str]) -> NDArray[np.int64]:
        """For each text, the numbers of all labelled rows, first the one to include first: [B, N]."""
        if self.order == "seed":
            drawn_N = np.random.default_rng(self.seed).permutation(len(labelled))
            return np.tile(drawn_N, (len(texts), 1))
        vectorizer = TfidfVectorizer(sublinear_tf=True).fit(labelled)
        similarity_BN = (vectorizer.transform(texts) @ vectorizer.transform(labelled).T).toarray()
        return np.argsort(-similarity_BN, axis=1, kind="stable")

    def chosen(self, ranking_N: NDArray[np.int64], lengths: Sequence[int], *, budget: int) -> list[int]:
        """The first labelled rows of a ranking whose tokens fit the budget together, in order of the context.

        `lengths` are the labelled rows' tokens, label and separator included.
        """
        ranked = ranking_N[: self.num_rows].tolist()
        sums = accumulate(lengths[row] for row in ranked)
        fitting = [row for row, total in zip(ranked, sums, strict=True) if total <= budget]
        return fitting if self.order == "seed" else fitting[::-1]
