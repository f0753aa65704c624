"""Searches on the tiny backbone: Optuna's, which can be resumed, and equal budgets."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from softcue.runs.metrics import METRICS
from softcue.runs.store import list_records
from softcue.sweep.budget import Trial, best_trial
from softcue.training.pruning import STUDY
from softcue.training.session import Session
from tests.sweep.conftest import Sweep

SEARCH = [
    "sweep=search",
    "split.num_validation=8",
    "hydra.sweeper.metric=validation/auroc",
    "search.pruner.n_startup_trials=2",
    "hydra.sweeper.params={prompt.learning_rate: 'tag(log, interval(0.01, 1))'}",
]


def study(runs: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(runs / "study.journal")))
    return optuna.load_study(study_name=STUDY, storage=storage)


@pytest.mark.slow
def test_an_interrupted_study_is_resumed(
    sweep: Sweep, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*tiny, *SEARCH, "search.pruner.n_startup_trials=9", f"paths.runs={tmp_path / 'runs'}"]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "score", interrupt)
        code, _ = sweep(*arguments, "hydra.sweeper.num_trials=2")
    assert code == 130
    (begun,) = study(tmp_path / "runs").trials
    assert begun.state == TrialState.RUNNING

    code, printed = sweep(*arguments, "hydra.sweeper.num_trials=2")
    assert code == 0, printed
    first = study(tmp_path / "runs").trials
    assert [trial.state for trial in first] == [TrialState.COMPLETE] * 2
    assert first[0].params == begun.params
    scores = {record.metrics["validation"]["auroc"] for record in list_records(tmp_path / "runs").records}
    assert {trial.value for trial in first} == scores

    code, printed = sweep(*arguments, "hydra.sweeper.num_trials=3")
    assert code == 0, printed
    again = study(tmp_path / "runs").trials
    assert len(again) == 3
    assert again[2].params not in [trial.params for trial in first]
    assert "best" in printed


@pytest.mark.slow
def test_a_trial_that_lags_behind_is_pruned(sweep: Sweep, tiny: list[str], tmp_path: Path) -> None:
    # A learning rate of 30 is worse than both trials before it, whatever theirs are.
    arguments = [*tiny, *SEARCH, f"paths.runs={tmp_path / 'runs'}"]
    sweep(*arguments, "hydra.sweeper.num_trials=2", "hydra.sweeper.metric=validation/perplexity")
    assert study(tmp_path / "runs").direction == StudyDirection.MINIMIZE
    space = "hydra.sweeper.params={prompt.learning_rate: 'tag(log, interval(30, 31))'}"
    code, printed = sweep(
        *arguments,
        "hydra.sweeper.num_trials=3",
        space,
        "hydra.sweeper.metric=validation/perplexity",
    )
    assert code == 0, printed
    assert study(tmp_path / "runs").trials[2].state == TrialState.PRUNED
    assert sorted(record.status for record in list_records(tmp_path / "runs").records) == [
        "complete",
        "complete",
        "pruned",
    ]


def test_a_search_without_a_space_or_a_metric_is_refused(sweep: Sweep, tiny: list[str]) -> None:
    code, printed = sweep(*tiny, "hydra/sweeper=search", "split.num_validation=8")
    assert (code, "error: there is nothing to search" in printed) == (1, True)
    code, printed = sweep(*tiny, *SEARCH, "hydra.sweeper.metric=validation/f1")
    assert (code, "error: 'f1' is not a metric; choose one of accuracy, macro_f1, " in printed) == (1, True)
    code, printed = sweep(*tiny, *SEARCH, "hydra.sweeper.metric=train/auroc", "hydra.sweeper.num_trials=1")
    assert code == 1
    assert "'train/auroc'" in printed
    assert "choose one of" in printed


@pytest.mark.slow
def test_every_method_has_the_same_trials_and_its_best_is_refitted(
    sweep: Sweep, tiny: list[str], tmp_path: Path
) -> None:
    code, printed = sweep(
        *tiny,
        "sweep=equal_budget",
        "hydra.sweeper.num_trials=2",
        "~hydra.sweeper.spaces.p_tuning",
        "trainer.max_epochs=1",
        "hydra.sweeper.folds=['split=few_shot_folds split.num_folds=2 split.fold=0',"
        "'split=few_shot_folds split.num_folds=2 split.fold=1']",
        "hydra.sweeper.refits=['seed=7','seed=8']",
        f"paths.runs={tmp_path / 'runs'}",
    )
    assert code == 0, printed
    records = list_records(tmp_path / "runs").records
    trials = [record for record in records if "test" not in record.metrics]
    refits = [record for record in records if "test" in record.metrics]
    for method in ("prompt_tuning", "prefix_tuning"):
        mine = [record for record in trials if record.method == method]
        assert len(mine) == 4
        assert {record.num_rows["validation"] for record in mine} == {6}
        by_rate: dict[float, list[float]] = {}
        for record in mine:
            score = record.metrics["validation"]["macro_f1"]
            assert score is not None
            by_rate.setdefault(record.settings["optimizer"]["lr"], []).append(score)
        assert [len(scores) for scores in by_rate.values()] == [2, 2]
        best = max(sum(scores) for scores in by_rate.values())
        chosen = [record for record in refits if record.method == method]
        assert sorted(record.seed for record in chosen) == [7, 8]
        assert {record.num_rows["train"] for record in chosen} == {12}
        (rate,) = {record.settings["optimizer"]["lr"] for record in chosen}
        assert sum(by_rate[rate]) == best


def test_a_trial_that_lacks_a_fold_is_never_the_best() -> None:
    trials = [
        Trial(method="a", overrides=("lr=1",), score=None),
        Trial(method="a", overrides=("lr=2",), score=0.0),
        Trial(method="a", overrides=("lr=3",), score=0.0),
        Trial(method="b", overrides=("lr=4",), score=0.9),
    ]
    assert best_trial(trials, "a", METRICS["macro_f1"]) is trials[1]
    assert best_trial(trials, "c", METRICS["macro_f1"]) is None


def test_the_best_trial_by_perplexity_is_the_lowest() -> None:
    trials = [Trial(method="a", overrides=(f"lr={n}",), score=n) for n in (3.0, 2.0, 4.0)]
    assert best_trial(trials, "a", METRICS["perplexity"]) is trials[1]


@pytest.mark.slow
def test_an_equal_budget_of_nothing_is_refused(sweep: Sweep, tiny: list[str]) -> None:
    space = "+hydra.sweeper.spaces.prompt_tuning={optimizer.lr: 'interval(0, 1)'}"
    for given, missing in (
        ([], "spaces"),
        ([space], "folds"),
        ([space, "hydra.sweeper.folds=[x]"], "refits"),
    ):
        code, printed = sweep(*tiny, "hydra/sweeper=equal_budget", *given)
        assert (code, f"error: hydra.sweeper.{missing} is empty; give it as" in printed) == (1, True)
