"""softcue.train, and what a trained prompt offers: predict, evaluate, save, push to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pandas as pd
import pyarrow as pa
import pytest
import yaml

import softcue
from softcue.api import override
from softcue.configs.compose import Composer, config_loader
from softcue.errors import ConfigError, DataError, RunError
from softcue.execute import train as train_runs
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone

FRAME = pd.DataFrame(
    {
        "text": [f"the text of review {at}" for at in range(24)],
        "label": ["good", "bad"] * 12,
    },
    index=range(100, 124),
)
SETTINGS: dict[str, Any] = {
    "split": "few_shot",
    "split.num_train": 8,
    "split.num_test": 6,
    "trainer.max_epochs": 1,
    "callbacks.progress_bar": None,
    "trainer.enable_progress_bar": False,
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def backbone(work: Path) -> Path:
    return save_tiny_backbone(work / "model", CACHE)


@pytest.fixture(scope="module")
def reviews(work: Path) -> Path:
    path = work / "reviews.csv"
    FRAME.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def settings(work: Path) -> dict[str, Any]:
    return {**SETTINGS, "paths.runs": str(work / "runs"), "paths.cache": str(CACHE)}


@pytest.fixture(scope="module")
def prompt(reviews: Path, backbone: Path, settings: dict[str, Any]) -> softcue.TrainedPrompt:
    return softcue.train("p_tuning", str(reviews), backbone=backbone, **settings)


def test_it_is_the_run_of_the_command_and_is_not_run_again(
    prompt: softcue.TrainedPrompt, reviews: Path, backbone: Path, settings: dict[str, Any]
) -> None:
    assert prompt.record.status == "complete"
    command = train_config(
        *("prompt=p_tuning", "data=table", f"data.source.path={reviews}"),
        *("backbone=local", f"backbone.path={backbone}"),
        *(override(name, value) for name, value in settings.items()),
    )
    (folder,) = train_runs(command)
    assert folder.path == prompt.folder
    again = softcue.train("p_tuning", reviews, backbone=str(backbone), **settings)
    assert again.record == prompt.record


def test_one_text_gives_one_prediction_and_a_list_gives_a_list(prompt: softcue.TrainedPrompt) -> None:
    one = prompt.predict("the text of a review")
    assert one.label in ("good", "bad")
    both = prompt.predict(["the text of a review", "another"])
    assert (both[0].label, len(both)) == (one.label, 2)


def test_evaluate_scores_a_frame_and_a_file_as_the_predictions_say(
    prompt: softcue.TrainedPrompt, reviews: Path
) -> None:
    predicted = [row.label for row in prompt.predict(FRAME["text"].tolist())]
    expected = sum(map(str.__eq__, predicted, FRAME["label"])) / len(FRAME)
    metrics = prompt.evaluate(FRAME)
    assert metrics["accuracy"] == pytest.approx(expected)
    assert prompt.evaluate(reviews) == metrics
    with pytest.raises(DataError, match="label_column is 'stars'"):
        prompt.evaluate(FRAME, label_column="stars")


def test_a_saved_prompt_is_loaded_with_all_it_offers(prompt: softcue.TrainedPrompt, tmp_path: Path) -> None:
    prompt.save(tmp_path / "kept")
    loaded = softcue.load(tmp_path / "kept")
    assert isinstance(loaded, softcue.TrainedPrompt)
    assert loaded.predict("a text") == prompt.predict("a text")


FRAMES = {
    "pandas": FRAME,
    "Arrow": pa.Table.from_pandas(FRAME, preserve_index=False),
    "datasets": datasets.Dataset.from_dict(
        {"text": FRAME["text"].tolist(), "label": [1, 0] * 12},
        features=datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
        ),
    ),
    "columns": FRAME.to_dict("list"),
    "rows": FRAME.to_dict("records"),
}


@pytest.mark.slow
def test_every_kind_of_frame_with_the_same_rows_is_the_same_run(
    backbone: Path, settings: dict[str, Any], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(work / "cache"))
    trained = [softcue.train(data=frame, backbone=backbone, **settings) for frame in FRAMES.values()]
    assert {one.folder for one in trained} == {trained[0].folder}
    assert trained[0].task.classes == ("bad", "good")
    with pytest.raises(DataError, match="a int cannot be read as a table"):
        softcue.train(data=3, backbone=backbone, **settings)


def test_several_runs_at_once_are_for_the_command(
    reviews: Path, backbone: Path, settings: dict[str, Any]
) -> None:
    for several in ({"joint.seed": [0, 1]}, {"dry": True}):
        with pytest.raises(ConfigError, match="one run and returns it"):
            softcue.train(data=reviews, backbone=backbone, **settings, **several)


def test_options_of_ones_own_are_found(reviews: Path, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert Composer(config_loader(tmp_path)).compose(["experiment=mine"]).seed == 7


@pytest.mark.parametrize(
    "value",
    ["1", "true", "it's, {a}: [b] \\ = #", "", "/a b/c", "Review : {text} :", -0.5, True, None, [1, "x"]],
)
def test_any_value_reaches_the_config_as_it_is(value: object) -> None:
    config = train_config(override("data.instruction", value))
    assert config.data.instruction == value


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """What would be uploaded, by repository."""
    uploaded: dict[str, dict[str, bytes]] = {}

    def upload(_: object, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        uploaded[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda _, repo, **__: f"https://hub/{repo}")
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    return uploaded


@pytest.mark.parametrize("layout", ["[soft:5]{input}", "{input}[soft:5]"])
def test_what_is_pushed_has_a_card_and_loads(
    layout: str,
    hub: dict[str, dict[str, bytes]],
    reviews: Path,
    backbone: Path,
    settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    prompt = softcue.train(data=reviews, backbone=backbone, **settings, **{"prompt.layout": layout})
    assert prompt.push_to_hub("me/reviews", licence="apache-2.0") == "https://hub/me/reviews"
    files = hub["me/reviews"]
    assert ("adapter_config.json" in files) == layout.startswith("[soft")
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["license"] == "apache-2.0"
    (result,) = [
        found for found in metadata["model-index"][0]["results"] if found["dataset"]["split"] == "test"
    ]
    pushed = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert pushed["accuracy"] == prompt.record.metric("test", "accuracy")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert softcue.load(tmp_path).predict("a text") == prompt.predict("a text")


def test_a_hub_that_cannot_be_reached_is_one_sentence(prompt: softcue.TrainedPrompt) -> None:
    with pytest.raises(RunError, match=r"me/reviews cannot be pushed to https://huggingface\.co"):
        prompt.push_to_hub("me/reviews")
