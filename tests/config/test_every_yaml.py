"""Every YAML composes, and every `_target_` can be called with the settings beside it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from softcue.chain import filled
from softcue.configs import CONFIG_PATH
from softcue.sweep.grid import combinations
from softcue.training.process import use_threads
from tests.composing import CHOICES, GROUPS, choose, options, train_config


def nodes(config: object) -> Iterator[DictConfig]:
    """Every mapping in a config that names a `_target_`."""
    if isinstance(config, DictConfig):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from nodes(value)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_option_composes_and_its_targets_bind(choice: str) -> None:
    config = choose(choice)
    config.paths.run = "runs/x"
    OmegaConf.resolve(config)
    assert OmegaConf.missing_keys(config) == set()
    for node in nodes(config):
        settings = {str(key): value for key, value in node.items() if not str(key).startswith("_")}
        target = inspect.signature(get_object(node["_target_"]))
        if node.get("_partial_", False):
            target.bind_partial(**settings)
        else:
            target.bind(**settings)


LAST_STAGES = {
    "distilled_multitask": ("target", 3),
    "multitask": ("target", 3),
    "ppt": ("target", 3),
    "raft_twitter_complaints": ("together", 1),
    "self_training": ("student", 1),
    "xprompt": ("pruned", 1),
}
"""The jobs of each chain's last stage."""


@pytest.mark.parametrize("chain", options("chain"))
def test_every_job_of_every_chain_composes(chain: str) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        stages = compose(config_name="chain", overrides=[f"chain={chain}"]).stages
    folders: dict[str, list[Path]] = {}
    for name, overrides in stages.items():
        jobs = combinations({}, [*filled(list(overrides), folders), "dry=true"])
        for job in jobs:
            config = train_config(*job)
            OmegaConf.resolve(config)
            assert config.dry
        folders[str(name)] = [Path(f"runs/{name}{number}") for number in range(len(jobs))]
    last = list(folders)[-1]
    assert (last, len(folders[last])) == LAST_STAGES[chain]


def test_all_groups_are_covered() -> None:
    assert {"backbone", "data", "split", "prompt", "experiment", "sweep", "trainer"} <= set(GROUPS)


def test_the_default_is_the_worked_example() -> None:
    config = train_config()
    assert config.backbone.repo == "bigscience/bloomz-560m"
    assert config.data.source.subset == "twitter_complaints"
    assert config.prompt.name == "prompt_tuning"


def test_the_command_line_wins_over_an_experiment_and_an_experiment_over_a_group() -> None:
    assert train_config("experiment=quickstart").split.num_test == 400
    assert train_config("experiment=quickstart", "split.num_test=7").split.num_test == 7
    assert train_config("experiment=quickstart").backbone.name == "smollm2_135m"
    assert train_config("experiment=quickstart", "backbone=bloomz_3b").backbone.name == "bloomz_3b"


def test_tuned_settings_stand_between_groups_and_experiments() -> None:
    assert train_config("experiment=quickstart").prompt.learning_rate == 0.1
    assert train_config("experiment=quickstart", "prompt=p_tuning").prompt.learning_rate == 0.003
    assert train_config("experiment=quickstart", "prompt.learning_rate=7").optimizer.lr == 7
    assert train_config("experiment=quickstart", "data=raft_overruling").prompt.learning_rate == 0.03


def test_threads_follow_the_setting_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr("torch.set_num_threads", given.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_threads(None)
    use_threads(3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("joblib.cpu_count", lambda *, only_physical_cores: 5)
    use_threads(None)
    assert given == [3, 5]
