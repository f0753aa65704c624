"""The interfaces of methods that are no soft prompts; their settings are those of a YAML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Baseline:
    """A method that leaves no prompt."""


class TextClassifier(Baseline, ABC):
    """A classifier of whole texts, without a language model."""

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


class StateClassifier(Baseline, ABC):
    """A classifier of a frozen model's final hidden states."""

    @abstractmethod
    def fit(self, states_BD: NDArray[np.float32], targets: Sequence[int]) -> None:
        """Train on states and their class indices, among which every class occurs."""

    @abstractmethod
    def probabilities(self, states_BD: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities [B, C], in the order of the class indices."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """How many numbers `fit` has trained."""
