"""Two worker processes on one machine, by joblib's launcher."""

from __future__ import annotations

import joblib
import pytest

from tests.cluster.conftest import MakeSweep
from tests.cluster.sweeps import (
    expect_one_bad_job_stops_no_other,
    expect_same_start_does_what_is_missing,
    expect_second_start_does_what_is_missing,
    record_of,
)

pytestmark = pytest.mark.cluster
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def test_a_second_start_does_what_a_killed_job_left(two_by_two: MakeSweep) -> None:
    expect_second_start_does_what_is_missing(two_by_two(*JOBLIB))


def test_a_killed_worker_is_replaced_and_its_job_goes_on(two_by_two: MakeSweep) -> None:
    expect_same_start_does_what_is_missing(two_by_two(*JOBLIB))


def test_one_bad_job_stops_no_other_and_workers_share_the_cores(one_bad: MakeSweep) -> None:
    sweep = one_bad(*JOBLIB)

    expect_one_bad_job_stops_no_other(sweep)

    threads = {record_of(folder).hardware.threads for folder in sweep.complete()}
    assert threads == {max(joblib.cpu_count() // 2, 1)}
