"""What commands say of a command line that Hydra refuses: one line, with the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softcue.app import main as train
from softcue.chain import main as chain
from softcue.cli import flags_first
from softcue.predict.__main__ import main as predict
from softcue.report.__main__ import main as report

RECORDS = Path(__file__).parents[2] / "experiments" / "quickstart" / "runs"
Main = Callable[[], None]

MISTAKES: dict[str, tuple[Main, list[str], str]] = {
    "a name that is near another": (train, ["prompt.learningrate=1"], "did you mean prompt.learning_rate?"),
    "a name without its group": (train, ["learning_rate=1"], "did you mean prompt.learning_rate or"),
    "the last word of a name": (train, ["trainer.epochs=3"], "did you mean trainer.max_epochs"),
    "another library's name": (
        train,
        ["prompt.num_tokens=5"],
        "initialiser, layout, learning_rate, method",
    ),
    "a layout without quotes": (
        train,
        ["prompt.layout=[soft:5]{input}"],
        "\"prompt.layout='[soft:5]{input}'\".",
    ),
    "values without -m": (
        train,
        ["seed=0,1"],
        "to train one run for each value, add -m; to give a list, seed=[0,1].",
    ),
    "no value": (train, ["seed"], "seed: write name=value, as in seed=1."),
    "a plus too many": (
        train,
        ["+prompt=p_tuning"],
        "give it once, as prompt=p_tuning without a +.",
    ),
    "no option": (train, ["~trainer"], "~trainer: a run needs one of cpu, ddp, gpu."),
    "a name that nothing has": (
        train,
        ["seed=${nope}"],
        "seed is taken from nope, which is not set; set one of them",
    ),
    "labels that a text has not": (
        train,
        ["experiment=quickstart", "data=airline_summaries", "prompt/initialiser=class_labels"],
        "prompt.initialiser.verbalizer is taken from data.task.verbalizer, which is not set",
    ),
    "a part that the method lacks": (
        train,
        ["prompt=hard_prompt", "prompt/initialiser=text"],
        "prompt/initialiser: none of the chosen options has such a part; leave prompt/initialiser out.",
    ),
    "what has no default": (
        train,
        ["backbone=hub"],
        "backbone.repo has no default; give it as backbone.repo=",
    ),
    "another kind of value": (train, ["metrics=[f1]"], "Cannot merge DictConfig with ListConfig (metrics)"),
    "a launcher that is not there": (
        train,
        ["-m", "hydra/launcher=x"],
        "options in 'hydra/launcher': basic joblib",
    ),
    "neither true nor false": (train, ["dry=maybe"], "error: dry is 'maybe'; give true or false."),
    "text for a number": (train, ["seed=a"], "seed is 'a'; give a whole number, 0 or more and"),
    "a number for a text": (train, ["prompt.layout=5"], "quote it twice: \"prompt.layout='5'\"."),
    "one value for a mapping": (train, ["prompt.method=3"], "it holds settings, such as prompt.method."),
    "one value for a list": (train, ["joint.seed=3"], "joint.seed is 3; give a list, as in joint.seed=[3]."),
    "null for the runs' folder": (
        train,
        ["paths.runs=null"],
        "paths.runs is null; give the folder of all runs",
    ),
    "several options for one": (
        train,
        ["prompt=[late,dept]"],
        "a run has one; to compare several, -m prompt=",
    ),
    "text for predict's number": (predict, ["run=x", "batch_size=a"], "batch_size is 'a'; give a number."),
    "a filter without a setting": (
        report,
        [f"runs={RECORDS}", "where=x"],
        "where is 'x'; give settings with",
    ),
    "a column that no run has": (
        report,
        [f"runs={RECORDS}", "columns=x"],
        "columns has x: no run has such a",
    ),
    "stages that are none": (chain, ["stages=x"], "stages is x; give a list of overrides for each, as in"),
    "an option in a chain": (
        chain,
        ["chain=ppt", "common=['prompt=x']"],
        "prompt=x: there is no such option; did you",
    ),
    "a setting of report": (
        report,
        ["fromat=html"],
        "fromat: there is no such setting; did you mean format?",
    ),
    "a setting of predict": (predict, ["outptu=x"], "outptu: there is no such setting; did you mean output?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, arguments, message = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    start = ["softcue", *(["experiment=quickstart", "dry=true"] if main is train else [])]
    monkeypatch.setattr(sys, "argv", [*start, *arguments])
    with pytest.raises(SystemExit, match="1"):
        main()
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_one_metric_needs_no_brackets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["softcue-report", f"runs={RECORDS}", "metrics=macro_f1", "format=markdown"]
    )
    report()
    (head,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| method")]
    assert "macro-F1" in head
    assert "accuracy" not in head


def test_settings_may_stand_on_both_sides_of_a_flag() -> None:
    given = ["prompt=a,b", "--config-dir", "mine", "-m", "seed=1", "--cfg", "job", "~logger"]
    assert flags_first(given) == [
        "--config-dir",
        "mine",
        "-m",
        "--cfg",
        "job",
        "prompt=a,b",
        "seed=1",
        "~logger",
    ]
