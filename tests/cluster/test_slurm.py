"""Debian's Slurm on this machine alone, by submitit's launcher."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import MakeSweep
from tests.cluster.sweeps import (
    expect_one_bad_job_stops_no_other,
    expect_same_start_does_what_is_missing,
    expect_second_start_does_what_is_missing,
    record_of,
)

pytestmark = pytest.mark.cluster
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10", "hydra.launcher.cpus_per_task=1")


@pytest.fixture(scope="module")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What SLURM_CONF is to say while Slurm runs."""
    folder = tmp_path_factory.mktemp("slurm")
    script(folder, "up")
    yield str(folder / "slurm.conf")
    script(folder, "down")


def script(folder: Path, action: str) -> None:
    """Run slurm.sh; if it fails, so does the test, with its line."""
    command = [str(Path(__file__).with_name("slurm.sh")), action, str(folder)]
    # Its daemons keep what stderr they inherit, so a pipe would have no end.
    with (folder.parent / "slurm.sh.txt").open("w+") as said:
        done = subprocess.run(command, stdout=said, stderr=said, check=False)
        said.seek(0)
        assert done.returncode == 0, said.read()


def test_a_second_start_does_what_a_killed_job_left(two_by_two: MakeSweep, slurm_conf: str) -> None:
    expect_second_start_does_what_is_missing(two_by_two(*SLURM, SLURM_CONF=slurm_conf))


def test_a_killed_job_is_submitted_again(two_by_two: MakeSweep, slurm_conf: str) -> None:
    expect_same_start_does_what_is_missing(two_by_two(*SLURM, SLURM_CONF=slurm_conf))


def test_one_bad_job_stops_no_other_and_each_has_its_cpu(one_bad: MakeSweep, slurm_conf: str) -> None:
    sweep = one_bad(*SLURM, SLURM_CONF=slurm_conf)

    expect_one_bad_job_stops_no_other(sweep)

    assert {record_of(folder).hardware.threads for folder in sweep.complete()} == {1}
