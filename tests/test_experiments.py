"""The tools of `experiments/` that its commands share."""

import time

import pytest

from experiments.workers import Workers


def test_a_worker_that_ends_by_itself_ends_the_run() -> None:
    workers = Workers(1)
    workers.submit("a job", ["prompt=prompt_tuning"])
    for process in workers._processes:
        process.kill()
        process.join()

    with pytest.raises(
        RuntimeError, match=r"1 of 1 worker processes ended by themselves \(exit codes \[-9\]\)"
    ):
        workers.run(lambda done: None, until=time.time() + 60)
