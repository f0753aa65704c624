"""A space of settings to search, in Hydra's syntax for sweeps.

`choice(a,b)`, `range(1,10)`, `interval(0.1,1)` and `tag(log, interval(0.001,1))`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from scipy.stats import qmc

from softcue.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Real numbers from `low` to `high`, uniform, or uniform on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool

    def at(self, position: float) -> str:
        """The value at a position from 0 to 1, in an override's syntax."""
        if self.log:
            value = math.exp(math.log(self.low) + position * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + position * (self.high - self.low)
        # Four digits are enough to distinguish trials, and are readable.
        return f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """A list of values, in an override's syntax."""

    values: tuple[str, ...]

    def at(self, position: float) -> str:
        """The value at a position from 0 to 1."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]


Space = Mapping[str, Interval | Options]


def parse_space(texts: Mapping[str, str]) -> dict[str, Interval | Options]:
    """Parse each setting's values as a dimension.

    Raises:
        ConfigError: a setting has a single value, or an invalid interval.
    """
    parser = OverridesParser.create()
    space = {}
    for override in parser.parse_overrides([f"{key}={text}" for key, text in texts.items()]):
        space[override.get_key_element()] = _dimension(override)
    return space


def points(space: Space, *, count: int, sampler: str, seed: int) -> list[dict[str, str]]:
    """Draw `count` points of a space: `random`, or `sobol` (scrambled), which leaves fewer gaps.

    Raises:
        ConfigError: the sampler is unknown.
    """
    if sampler == "sobol":
        generator = qmc.Sobol(d=len(space), scramble=True, rng=np.random.default_rng(seed))
        # Sobol points are balanced in powers of two only; the first ones are taken.
        unit = generator.random_base2(max(count - 1, 1).bit_length())[:count]
    elif sampler == "random":
        unit = np.random.default_rng(seed).random((count, len(space)))
    else:
        raise ConfigError(f"hydra.sweeper.sampler is {sampler!r}; choose sobol or random.")
    return [
        {key: dimension.at(float(u)) for (key, dimension), u in zip(space.items(), row, strict=True)}
        for row in unit
    ]


def _dimension(override: Override) -> Interval | Options:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        low, high, log = float(value.start or 0), float(value.end or 0), "log" in value.tags
        if not (low < high and (low > 0 or not log)):
            raise ConfigError(
                f"{override.input_line}: give an interval from a smaller to a larger number, above 0 on a "
                "logarithmic scale."
            )
        return Interval(low=low, high=high, log=log)
    if isinstance(value, (ChoiceSweep, RangeSweep)):
        return Options(values=tuple(override.sweep_string_iterator()))
    raise ConfigError(
        f"{override.input_line} is one value; a search needs several, as choice(a,b), range(1,10), "
        "interval(0.1,1) or tag(log, interval(0.001,1))."
    )


def as_overrides(point: Mapping[str, str]) -> list[str]:
    """Write a point as overrides."""
    return [f"{key}={value}" for key, value in point.items()]


def split_space(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split a command's arguments into those with several values, by setting, and the rest."""
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    several = {
        o.get_key_element(): str(o.input_line).split("=", 1)[1] for o in parsed if o.is_sweep_override()
    }
    return several, [str(o.input_line) for o in parsed if not o.is_sweep_override()]
