"""Configs are those that Hydra composes, and no setting in them is ignored in silence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from softcue.app import main
from softcue.configs import CONFIG_PATH
from softcue.configs.compose import expect_all_read
from softcue.errors import ConfigError
from softcue.plan import resolve
from softcue.runs.identity import identity
from tests.composing import composer, train_config

QUICKSTART = "experiment=quickstart"


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=1", "prompt=p_tuning", 'prompt.layout="[soft:3]{input}"'],
        ["prompt/initialiser=text", "split.num_train=40", "~callbacks.progress_bar"],
        ["data.task.verbalizer={complaint: bad, no complaint: good}", "+trainer.limit_test_batches=2"],
        ["logger=[csv,tensorboard]", "++seed=4", "~tuned"],
        ["data=tweet_topics", "prompt=multitask", "sweep=demo", "debug=fast"],
        ["hydra/sweeper=search", "hydra.sweeper.num_trials=3", "optimizer=adafactor"],
        ["prompt.layout='[soft:${data.batch_size}]{input}'", "data.batch_size=6"],
    ],
)
def test_a_config_is_the_one_that_hydra_composes(overrides: list[str]) -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        expected = compose(config_name="train", overrides=[QUICKSTART, *overrides])
    for _ in range(2):
        config = composer().compose_unchecked([QUICKSTART, *overrides])
        assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(expected)
        config.seed = 99


def test_a_config_does_not_depend_on_those_composed_before() -> None:
    alone = OmegaConf.to_yaml(train_config("prompt=prompt_tuning"))
    train_config("prompt=p_tuning", "data=gsm8k", "backbone=smollm2_135m")
    # Another choice of groups, so that the files are merged again.
    again = train_config("prompt=prompt_tuning", "backbone=bloomz_560m")
    assert OmegaConf.to_yaml(again) == alone


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["prompt.learning_rate=0.3", "optimizer.lr=0.2"],
            r"optimizer\.lr=0\.2 overrides prompt\.learning_rate=0\.3, which is set too .* Set "
            r"prompt\.learning_rate alone",
        ),
        ([QUICKSTART, "optimizer.lr=0.2"], r"optimizer\.lr=0\.2 overrides prompt\.learning_rate=0\.1"),
        (
            ["prompt=hard_prompt", "prompt.layout='Rate: {input}'", "data.instruction=Judge"],
            r"prompt\.layout=Rate: {input} overrides data\.instruction=Judge",
        ),
        (
            ["prompt=p_tuning_anchored", "prompt.layout='[soft:2]{input}'", "data.anchor='!'"],
            r"prompt\.layout=\[soft:2\]{input} overrides data\.anchor=!",
        ),
        (
            ["prompt/initialiser=text", "prompt.initialiser.text=Go", "data.instruction=Judge"],
            r"prompt\.initialiser\.text=Go overrides data\.instruction=Judge",
        ),
        (
            ["prompt.initialiser.text=a", "prompt.method.initialiser={_target_: mine}"],
            r"prompt\.method\.initialiser.* overrides prompt\.initialiser\.text=a",
        ),
        (
            ["prompt=saved", "prompt.path=a", "prompt.method.path=b"],
            r"prompt\.method\.path=b overrides prompt\.path=a",
        ),
        (
            ["prompt=ensemble", "prompt.runs=[a]", "prompt.method.runs=[b]"],
            r"prompt\.method\.runs=\['b'\] overrides prompt\.runs=\['a'\]",
        ),
        (
            ["prompt=multitask_target", "prompt.source=a", "prompt.method.source=b"],
            r"prompt\.method\.source=b overrides prompt\.source=a",
        ),
        (
            ["prompt=multitask", "data.task_names=[a]", "prompt.method.tasks=[b]"],
            r"prompt\.method\.tasks=\['b'\] overrides data\.task_names=\['a'\]",
        ),
        (["seed=5", "joint.seed=[0,1]"], r"joint\.seed=\[0, 1\] overrides seed=5"),
    ],
)
def test_of_two_settings_for_one_thing_neither_is_ignored(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composer().compose(overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer.lr=0.2"],
        ["prompt.learning_rate=0.2"],
        [QUICKSTART, "prompt.learning_rate=0.2"],
        [QUICKSTART, "optimizer=adafactor", "prompt.learning_rate=0.3"],
        ["prompt=hard_prompt", "prompt.layout='Rate: {input}'"],
        ["prompt.initialiser.text=Go"],
        ["data=tweet_topics", "prompt=multitask", "data.instruction=Judge"],
        [QUICKSTART, "joint.learning_rate=[0.1,0.2]"],
    ],
)
def test_one_setting_for_one_thing_is_accepted(overrides: list[str]) -> None:
    config = composer().compose(overrides)
    assert expect_all_read(config, composer().own_settings(overrides)) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+prompt.learningrate=1"],
            r"learningrate=1 is given: .*did you mean prompt\.learning_rate\?",
        ),
        (["+split.own={a: 1}", "+note=x"], r"note=x is given: there is no such setting; --help lists"),
        (["data=tweet_topics", "+data.batches=3"], r"data\.batches=3 is given: .*did you mean data\.batch"),
    ],
)
def test_what_is_added_and_not_read_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composer().compose(overrides)


def test_what_is_added_and_read_is_accepted() -> None:
    composer().compose(["+share=0.5", "prompt.learning_rate=${share}", "+trainer.profiler=simple"])
    composer().compose(["+metrics.mine._target_=x", "+prompt.method.mine=1", "+callbacks.mine.patience=3"])


def test_the_command_refuses_what_would_be_ignored_and_logs_what_nothing_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["softcue-train", QUICKSTART, "prompt=baseline/tfidf", "split.num_test=20", "dry=true"]
    monkeypatch.setattr(sys, "argv", [*common, "prompt=prompt_tuning", "optimizer.lr=0.2"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "error: optimizer.lr=0.2 overrides prompt.learning_rate=0.1" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*common, "data.instruction=Judge"])
    main()
    assert "data.instruction is given, but nothing in this run reads it" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*common, "+logger.same=${split}"])
    main()
    assert "would run: 50 train rows" in capsys.readouterr().out


def test_a_users_own_yaml_declares_what_does_not_count(tmp_path: Path) -> None:
    own = tmp_path / "callbacks"
    own.mkdir()
    (own / "mine.yaml").write_text(
        "defaults:\n  - default\n  - _self_\n"
        "note:\n  _target_: builtins.dict\n  path: here\n  every: 3\n"
        "  _identity_:\n    path: no_effect\n"
    )
    mine = composer(f"hydra.searchpath=[file://{tmp_path}]")
    counted = [
        identity(resolve(mine.compose(["callbacks=mine", f"callbacks.note.{value}"])))
        for value in ("every=3", "path=there", "every=4")
    ]
    assert counted[0] == counted[1] != counted[2]
    assert counted[0]["callbacks.note.every"] == 3
