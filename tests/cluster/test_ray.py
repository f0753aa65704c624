"""A Ray cluster of two nodes, by Ray's launcher."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeSweep
from tests.cluster.sweeps import (
    PATIENCE_S,
    expect_one_bad_job_stops_no_other,
    expect_same_start_does_what_is_missing,
    expect_second_start_does_what_is_missing,
    record_of,
)

pytestmark = pytest.mark.cluster
# Ray's name for: everything at 127.0.0.1.
LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
NO_RETRY = "+hydra.launcher.ray.remote.max_retries=0"


@pytest.fixture(scope="module")
def on_ray() -> Iterator[tuple[str, ...]]:
    """The overrides that run a sweep on a cluster of two nodes."""
    cluster = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **LOCAL},
    )
    assert cluster.stdout is not None
    address = next(line for line in cluster.stdout if line.startswith("address=")).strip()
    # The launcher asks for a size that only a new cluster may be given.
    size = "+hydra.launcher.ray.init.object_store_memory=null"
    yield ("hydra/launcher=ray", f"hydra.launcher.ray.init.{address}", size)
    cluster.communicate(timeout=PATIENCE_S)


def test_a_second_start_does_what_a_killed_job_left(two_by_two: MakeSweep, on_ray: tuple[str, ...]) -> None:
    expect_second_start_does_what_is_missing(two_by_two(*on_ray, NO_RETRY, **LOCAL))


def test_ray_starts_a_killed_job_again_itself(two_by_two: MakeSweep, on_ray: tuple[str, ...]) -> None:
    sweep = two_by_two(*on_ray, **LOCAL)

    expect_same_start_does_what_is_missing(sweep)

    assert "the launcher ended early" not in sweep.output.read_text()


def test_one_bad_job_stops_no_other_and_each_has_a_core(one_bad: MakeSweep, on_ray: tuple[str, ...]) -> None:
    sweep = one_bad(*on_ray, **LOCAL)

    expect_one_bad_job_stops_no_other(sweep)

    assert {record_of(folder).hardware.threads for folder in sweep.complete()} == {1}
