"""Training rows and those without labels are scored on request, later too, and nothing is trained again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from lightning import Trainer
from omegaconf import DictConfig

from softcue.configs.compose import Composer, config_loader
from softcue.errors import ConfigError, RunError
from softcue.execute import train
from softcue.plan import prepare
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.training.recorder import Recorder
from tests.cases import slow_but
from tests.composing import train_config
from tests.resume.conftest import tiny, tiny_backbone
from tests.running import train_one

__all__ = ["tiny", "tiny_backbone"]

Compose = Callable[..., DictConfig]


@pytest.fixture
def compose(tiny: list[str], tmp_path: Path) -> Compose:
    """A run on 16 labelled rows of a table that has 3 more without a label."""
    labels = [*(["good", "bad"] * 8), "", "", ""]
    rows = pd.DataFrame(
        {"text": [f"row {at} is {label}" for at, label in enumerate(labels)], "label": labels}
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    table = [
        "data=table",
        "data.task.name=rows",
        "data.task.template='{text} :'",
        "data.task.classes=[good,bad]",
        "data.task.verbalizer={good: good, bad: bad}",
        f"data.source.path={tmp_path / 'rows.csv'}",
        "split.num_test=4",
    ]
    return lambda *overrides: train_config(*tiny, *table, f"paths.runs={tmp_path / 'runs'}", *overrides)


def record_of(folder: RunFolder) -> RunRecord:
    record = folder.record()
    assert record is not None
    return record


def test_a_refused_start_leaves_the_record_of_a_complete_run(compose: Compose) -> None:
    before = record_of(train_one(compose()))
    (run,) = prepare(compose())
    Recorder(run).record_refusal(ConfigError("the engine cannot run this model"))
    assert record_of(run.folder) == before


@pytest.mark.parametrize(
    "method", ["baseline/plurality", "baseline/tfidf", "baseline/tfidf_svm", "baseline/probe", "hard_prompt"]
)
def test_a_class_that_no_row_has_is_scored_as_any_other(compose: Compose, method: str) -> None:
    classes = ["data.task.classes=[good,absent,bad,last]", "data.task.verbalizer=null"]
    folder = train_one(compose(*classes, f"prompt={method}"))
    predictions = pd.read_parquet(folder.predictions_path("test"))
    assert any("absent" in str(name) for name in predictions)
    assert 0 <= (record_of(folder).metrics["test"]["macro_f1"] or -1) <= 1


def test_a_part_that_only_some_tasks_have_is_scored_for_those(
    compose: Compose, tiny: list[str], tmp_path: Path
) -> None:
    compose()  # writes rows.csv
    rows = pd.read_csv(tmp_path / "rows.csv").dropna()
    rows.to_csv(tmp_path / "labelled.csv", index=False)
    of_task = "max_length: 32, task: {template: '{text} :', classes: [good, bad]}"
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mix.yaml").write_text(
        "defaults: [table@tasks.some, table@tasks.none, _self_]\n"
        "name: mix\ntemperature: 1.0\ninstruction: Say which.\n"
        "task_names: ${oc.dict.keys:data.tasks}\ntasks:\n"
        f"  some: {{source: {{path: {tmp_path / 'rows.csv'}}}, {of_task}}}\n"
        f"  none: {{source: {{path: {tmp_path / 'labelled.csv'}}}, {of_task}}}\n"
    )
    composer = Composer(config_loader(str(tmp_path / "conf")))
    mixed = ["data=mix", "split.num_test=4", "predict_unlabelled=true", f"paths.runs={tmp_path / 'runs'}"]
    folder = train_one(composer.compose([*tiny, *mixed]))
    assert set(record_of(folder).metrics) == {"test", "test/some", "test/none"}
    assert folder.predictions_path("unlabelled_some").exists()
    assert not folder.predictions_path("unlabelled_none").exists()


def test_a_search_for_a_method_without_parameters_only_scores_it(compose: Compose) -> None:
    folder = train_one(compose("prompt=hard_prompt", "optimizer=cma_es"))
    assert record_of(folder).training is None


METHODS = ["prompt_tuning", "p_tuning", "hard_prompt", "baseline/tfidf"]
ADDED = [
    *(("unlabelled", method) for method in METHODS),
    ("train", "prompt_tuning"),
    ("train", "hard_prompt"),
]


@pytest.mark.parametrize(
    ("part", "method"), slow_but([("unlabelled", "prompt_tuning"), ("train", "hard_prompt")], ADDED)
)
def test_they_are_added_to_a_complete_run_as_if_asked_for_at_once(
    compose: Compose, tmp_path: Path, part: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (f"predict_{part}=true", f"prompt={method}")
    at_once = train_one(compose(*asked, f"paths.runs={tmp_path / 'at_once'}"))
    first = train_one(compose(f"prompt={method}"))
    before = record_of(first)
    assert not first.predictions_path(part).exists()
    assert first.is_complete_with([])
    assert not first.is_complete_with([part])
    assert "train" not in before.metrics

    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    later = train_one(compose(*asked))
    assert later.is_complete_with([part])
    assert later.path == first.path
    assert later.path.name == at_once.path.name
    added, expected = (pd.read_parquet(folder.predictions_path(part)) for folder in (later, at_once))
    pd.testing.assert_frame_equal(added, expected)
    assert len(added) == before.num_rows[part]
    after = record_of(later)
    assert after == replace(
        before,
        metrics=record_of(at_once).metrics,
        settings={**before.settings, f"predict_{part}": True},
        times=after.times,
    )

    written = later.predictions_path(part).stat().st_mtime_ns
    train_one(compose(*asked))
    assert later.predictions_path(part).stat().st_mtime_ns == written


def test_a_run_stays_complete_when_adding_them_fails(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record_of(train_one(compose()))
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_predictions", lambda *_, **__: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            train_one(compose("predict_unlabelled=true"))
    folder = train_one(compose("dry=true"))
    assert record_of(folder) == before
    train_one(compose("predict_unlabelled=true"))
    assert folder.predictions_path("unlabelled").exists()


@pytest.mark.slow
def test_joint_runs_add_them_each(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    train(compose("joint.seed=[0,1]"))
    monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    for folder in train(compose("joint.seed=[0,1]", "predict_unlabelled=true")):
        assert len(pd.read_parquet(folder.predictions_path("unlabelled"))) == 3


def test_a_complete_run_without_its_prompt_says_how_to_train_again(compose: Compose) -> None:
    folder = train_one(compose())
    folder.prompt_path.unlink()
    with pytest.raises(RunError, match=r"prompt\.safetensors is missing.*delete .* to train again"):
        train_one(compose("predict_unlabelled=true"))
