"""The interface of a baseline that classifies plain text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class TextClassifier(ABC):
    """A classifier of whole texts, without a prompt.

    Its settings are the arguments of its constructor, those of the YAML that names it.
    """

    @abstractmethod
    def fit(self, texts: Sequence[str], targets: Sequence[int]) -> None:
        """Train on texts and their class indices, among which every class occurs."""

    @abstractmethod
    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Class probabilities [B, C], in the order of the class indices."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """How many numbers `fit` has trained."""
