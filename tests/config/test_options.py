"""Names of options that no YAML has."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.configs.options import expect_options, without_null_groups
from softcue.errors import ConfigError
from tests.composing import CHOICES, composer
from tests.entry_points import run_script


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("prompt=tfidf", "did you mean prompt=baseline/tfidf or"),
        ("prompt=p_tuning,prefixtuning", "did you mean prompt=prefix_tuning or"),
        ("data=airline", "did you mean data=airline_complaints or data=airline_summaries[?]"),
        ("prompt/initialiser=texts", "did you mean prompt/initialiser=text[?]"),
        ("+decoding@data.decoding=beams", "did you mean decoding=beam[?]"),
        ("logger=x", "choose one of csv, tensorboard, wandb[.]"),
    ],
)
def test_a_name_that_no_yaml_has_is_refused_with_those_that_are_near(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"there is no such option; {message}"):
        expect_options(["seed=1", argument])


def test_every_option_is_known() -> None:
    expect_options(CHOICES)


def test_what_is_no_choice_of_a_group_is_left_to_hydra(tmp_path: Path) -> None:
    (tmp_path / "prompt").mkdir()
    (tmp_path / "prompt" / "mine.yaml").touch()
    for folder in ([f"--config-dir={tmp_path}"], ["--config-dir", str(tmp_path)], ["-cd", str(tmp_path)]):
        expect_options([*folder, "prompt=mine"])
    expect_options(["logger=null", "~logger", "data.batch_size=x", "prompt={x: 1}", "seed=x", "paths.runs=x"])
    expect_options(["hydra/launcher=joblib", "hydra.searchpath=[x]", "prompt=elsewhere"])
    expect_options(["prompt=p_tu", "--shell-completion", "query=bash"])


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    done = run_script("softcue-train", "prompt=tfidf", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: prompt=tfidf: there is no such option; did you mean")


def test_null_is_for_groups_that_a_run_may_do_without() -> None:
    given = ["tuned=null", "~logger", "sweep=null", "prompt=p_tuning", "data.max_length=null", "~data.x"]
    kept = ["~tuned", "~logger", "prompt=p_tuning", "data.max_length=null", "~data.x"]
    assert without_null_groups(given) == kept
    for text in ("trainer=null", "~trainer", "trainer="):
        with pytest.raises(ConfigError, match=f"{text}: a run needs one of .*cpu, .*gpu"):
            without_null_groups([text])
    with pytest.raises(ConfigError, match="=1: write name=value"):
        without_null_groups(["=1"])


def test_tuned_settings_can_be_left_out() -> None:
    chosen = ["data=airline_complaints", "prompt=residual"]
    tuned, own = (composer().compose([*chosen, *more]) for more in ([], ["tuned=null"]))
    assert (tuned.prompt.learning_rate, own.prompt.learning_rate) == (0.06453, 0.01)


def test_several_options_are_for_a_sweep() -> None:
    with pytest.raises(ConfigError, match=r"to compare several, -m prompt=p_tuning,residual\."):
        expect_options(["prompt=[p_tuning,residual]"])
    expect_options(["logger=[csv,wandb]"])
