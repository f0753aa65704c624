"""The jobs of a sweep are those that each command alone would run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError
from softcue.sweep.jobs import Jobs
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one

COMMON = ["experiment=quickstart", f"paths.cache={CACHE}"]
LISTS = [
    [],
    ["seed=1"],
    ["seed=2", "prompt=p_tuning"],
    ["seed=1", "prompt=p_tuning"],
    # from the third on, such jobs are made from two of them
    ["seed=3", "prompt=p_tuning"],
    ["seed=4", "prompt=p_tuning"],
    *(["data.task.name='mine ${seed}'", f"seed={seed}"] for seed in (4, 5, 6)),
    ["seed=1", 'prompt.layout="[soft:3]{input}"'],
    ["prompt=prefix_tuning", "prompt.learning_rate=0.7"],
    ["prompt=prefix_tuning", "prompt.learning_rate=0.1"],
    ["prompt/initialiser=text", "split.num_train=40", "~callbacks.progress_bar"],
    ["data=tweets_apple", "split.num_test=10"],
    ["data.task.verbalizer={complaint: bad, no complaint: good}"],
    ["data.task.verbalizer={complaint: bad, no complaint: fine}"],
    ["split=few_shot_folds", "split.fold=1"],
    ["backbone.dtype=auto"],
    # what other settings refer to: directly, relatively, in a list, through another, as a whole mapping
    ["data.task.name=mine"],
    ["prompt.learning_rate=0.3"],
    ["optimizer=adafactor"],
    ["prompt.initialiser.text='judge it'", "prompt/initialiser=text"],
    ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/loss"],
    ["data=tweet_topics", "prompt=multitask", "split.balance=equal", "split.num_test=10", "seed=3"],
    ["prompt.layout='[soft:${data.batch_size}]{input}'", "data.batch_size=6"],
]


@pytest.fixture
def jobs() -> Jobs:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", [], run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        return Jobs(hydra.config_loader, config)


def test_a_job_has_the_folder_that_it_has_alone_whatever_came_before(jobs: Jobs, tmp_path: Path) -> None:
    runs = f"paths.runs={tmp_path}"
    found = jobs.from_overrides([[*COMMON, runs, *overrides] for overrides in [*LISTS, *reversed(LISTS)]])
    alone = [train_one(train_config(*COMMON, runs, *overrides, "dry=true")).path for overrides in LISTS]
    assert [job.folders[0].path for job in found] == [*alone, *reversed(alone)]
    # dtype=auto is float32 on some machines.
    assert len({job.folders[0].path for job in found}) >= len(LISTS) - 1


def test_runs_that_train_together_are_one_job(jobs: Jobs, tmp_path: Path) -> None:
    (job,) = jobs.from_overrides([[*COMMON, f"paths.runs={tmp_path}", "joint.seed=[0,1]"]])
    alone = [
        train_one(train_config(*COMMON, f"paths.runs={tmp_path}", f"seed={seed}", "dry=true"))
        for seed in (0, 1)
    ]
    assert [folder.path for folder in job.folders] == [folder.path for folder in alone]


def test_a_label_is_what_jobs_do_not_share(jobs: Jobs) -> None:
    found = jobs.from_overrides(
        [[*COMMON, "seed=1", "prompt=p_tuning"], [*COMMON, "seed=2", "prompt=p_tuning"]]
    )
    assert [job.label for job in found] == ["seed=1", "seed=2"]


def test_a_job_that_cannot_be_composed_is_named(jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match=r"no job was started: job 1 \(split.folds=3\): split.folds: there"):
        jobs.from_overrides([[*COMMON, "seed=1"], [*COMMON, "split.folds=3"]])
