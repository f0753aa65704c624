"""Sweeps of the tiny model over the engines that exist: `make test-cluster`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.sweeps import Sweep
from tests.resume import conftest as resume

MakeSweep = Callable[..., Sweep]

tiny_backbone, tiny = resume.tiny_backbone, resume.tiny


@pytest.fixture
def make_sweep(tiny: list[str], tmp_path: Path) -> Iterator[MakeSweep]:
    """The sweep of these overrides, with these variables in its environment; none outlives its test."""
    made: list[Sweep] = []

    def sweep(*overrides: str, **environment: str) -> Sweep:
        made.append(
            Sweep(
                overrides=(*tiny, *overrides),
                runs=tmp_path / "runs",
                output=tmp_path / "output.txt",
                environment=environment,
            )
        )
        return made[-1]

    yield sweep
    for one in made:
        one.clear()


@pytest.fixture
def two_by_two(make_sweep: MakeSweep) -> MakeSweep:
    """Two methods times two seeds, 90 steps each, with a launcher's overrides and environment."""
    jobs = ("trainer.max_epochs=30", "prompt=prompt_tuning,p_tuning", "seed=0,1")
    return lambda *launcher, **environment: make_sweep(*jobs, *launcher, **environment)


@pytest.fixture
def one_bad(make_sweep: MakeSweep) -> MakeSweep:
    """Three jobs, the second of which fails."""
    return lambda *launcher, **environment: make_sweep(
        "prompt.learning_rate=0.1,1e38,0.2", *launcher, **environment
    )
