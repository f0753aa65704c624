"""Numbers that a setting may not be are refused when the config is read."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest

from softcue.configs.ranges import RANGES, expect_in_range
from softcue.errors import ConfigError
from softcue.plan import resolve
from softcue.runs.identity import leaves
from tests.composing import CHOICES, choose, train_config


@pytest.mark.parametrize("choice", CHOICES)
def test_every_default_is_in_its_range(choice: str) -> None:
    expect_in_range(dict(leaves(resolve(choose(choice)))))


def test_every_range_is_of_a_setting_that_exists() -> None:
    known = {path for choice in CHOICES for path, _ in leaves(resolve(choose(choice)))}
    known |= {"trainer.max_steps"}  # an argument of the Trainer that no YAML sets
    assert [pattern for pattern in RANGES if not any(fnmatch(path, pattern) for path in known)] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("split.num_train=-1", "split.num_train is -1; give a whole number, 1 or more."),
        ("split.num_train=0", "split.num_train is 0; give a whole number, 1 or more."),
        ("split.num_test=-1", "split.num_test is -1; give a whole number, 0 or more."),
        ("data.batch_size=0", "data.batch_size is 0; give a whole number, 1 or more."),
        ("data.batch_size=2.5", "data.batch_size is 2.5; give a whole number, 1 or more."),
        ("data.batch_size=many", "data.batch_size is 'many'; give a whole number, 1 or more."),
        ("data.batch_size=true", "data.batch_size is True; give a whole number, 1 or more."),
        ("data.eval_batch_size=-2", "data.eval_batch_size is -2; give a whole number, 1 or more."),
        ("data.max_length=0", "data.max_length is 0; give a whole number, 1 or more."),
        ("data.num_workers=-1", "data.num_workers is -1; give a whole number, 0 or more."),
        (
            "data.source.min_confidence=1.2",
            "data.source.min_confidence is 1.2; give a number, 0 or more and 1 or less.",
        ),
        ("prompt.learning_rate=-0.1", "prompt.learning_rate is -0.1; give a number, 0 or more."),
        ("prompt.learning_rate=nan", "prompt.learning_rate is nan; give a number, 0 or more."),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1; give a number, 0 or more."),
        ("optimizer.betas=[0.9,1.0]", "optimizer.betas is [0.9, 1.0]; give a number, 0 or more and below 1."),
        (
            "scheduler.warmup_fraction=1.5",
            "scheduler.warmup_fraction is 1.5; give a number, 0 or more and 1 or less.",
        ),
        ("trainer.max_epochs=0", "trainer.max_epochs is 0; give a whole number, 1 or more."),
        (
            "trainer.accumulate_grad_batches=0",
            "trainer.accumulate_grad_batches is 0; give a whole number, 1 or more.",
        ),
        ("trainer.devices=0", "trainer.devices is 0; give a whole number, 1 or more, a list or auto."),
        ("cache.budget_gb=-1", "cache.budget_gb is -1; give a number, 0 or more."),
        ("threads=0", "threads is 0; give a whole number, 1 or more."),
        ("seed=-1", "seed is -1; give a whole number, 0 or more and 4294967295 or less."),
        ("callbacks.last.every_s=-1", "callbacks.last.every_s is -1; give a number, 0 or more."),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        resolve(train_config("experiment=quickstart", setting))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prompt=p_tuning_lstm", "prompt.method.dropout=1"], "prompt.method.dropout is 1; give a number, 0"),
        (["data=tweet_topics", "data.temperature=0"], "data.temperature is 0; give a number, above 0."),
        (["split=k_fold", "split.num_folds=1"], "split.num_folds is 1; give a whole number, 2 or more."),
        (
            ["data=tweet_topics", "data.tasks.apple.max_length=0"],
            "data.tasks.apple.max_length is 0; give a whole number, 1 or more.",
        ),
    ],
)
def test_so_is_one_of_a_method_a_mixture_or_a_split(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve(train_config(*overrides))


def test_null_is_in_every_range() -> None:
    config = train_config("split=few_shot", "split.num_test=null", "trainer.gradient_clip_val=null")
    assert resolve(config)["split"]["num_test"] is None
