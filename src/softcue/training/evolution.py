"""CMA-ES (Hansen 2016, arXiv 1604.00772), by the library cmaes, in the place of an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, log

import numpy as np
from cmaes import CMA

from softcue.errors import ConfigError

MOST_PARAMETERS = 4000
"""Above it the covariance matrix alone takes more memory than a small model."""


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """A search by generations of `population` candidates, the first drawn around the start."""

    sigma: float
    """The standard deviation of the first generation."""
    population: int | None
    """None: 4 + 3 ln(number of parameters), the method's own default."""

    def expect_one_process(self, count: int) -> None:
        """Refuse a trainer of several processes; ConfigError says how many it has."""
        if count > 1:
            raise ConfigError(
                f"trainer makes {count} processes, and optimizer=cma_es searches in one; set "
                "trainer.devices=1, trainer.num_nodes=1 and trainer.strategy=auto."
            )

    def search(self, start: np.ndarray, *, seed: int) -> CMA:
        """The state of a search before its first generation.

        Raises:
            ConfigError: more parameters than its covariance matrix has room for.
        """
        if len(start) > MOST_PARAMETERS:
            raise ConfigError(
                f"optimizer=cma_es searches at most {MOST_PARAMETERS:,} numbers, and this prompt has "
                f"{len(start):,}; use prompt=black_box, whose prompt.method.dimension says how many."
            )
        population = self.population or 4 + floor(3 * log(len(start)))
        return CMA(mean=start, sigma=self.sigma, seed=seed, population_size=population)
