"""From label log-likelihoods to class scores, and to calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from softcue.backbone.scoring import TargetScores
from softcue.data.run_data import RunData
from softcue.errors import ConfigError
from softcue.evaluation.calibration import Calibrator

ALSO = "@"
"""Between a part, or a task, and the name of a scoring that is not the run's own: `test@batch`."""


class Scoring:
    """The score of a class: its label's log-likelihood, summed over tokens or, `per_token`, averaged.

    The softmax of the scores is the class probability, which `calibration` then changes. `also` are other
    scorings of the same pass of the model, by name.
    """

    # No dataclass: Hydra would make a config of those in a mapping.
    def __init__(
        self,
        *,
        per_token: bool,
        calibration: Calibrator | None = None,
        also: Mapping[str, Scoring] | None = None,
    ) -> None:
        self.per_token, self.calibration, self.also = per_token, calibration, also or {}

    def scores_BC(self, scores: TargetScores) -> Tensor:
        """One score for each class, in nats; their softmax is the uncalibrated class probability."""
        return scores.mean_per_token_BC() if self.per_token else scores.log_likelihood_BC

    @property
    def named(self) -> dict[str, Scoring]:
        """This scoring, without a suffix, and the others, each by the suffix of its parts in records."""
        return {"": self} | {f"{ALSO}{name}": other for name, other in self.also.items()}

    def expect_rows(self, data: RunData) -> None:
        """Refuse a calibration on a part without rows.

        Raises:
            ConfigError: names the part.
        """
        for scoring in self.named.values():
            rows = None if scoring.calibration is None else scoring.calibration.rows
            for name, task in data.tasks.items():
                if isinstance(rows, str) and not task.ids(rows):
                    raise ConfigError(
                        f"scoring.calibration.rows is {rows}, and {name} has no {rows} rows; choose train or "
                        "test."
                    )
