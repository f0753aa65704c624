"""Any set of the hub trains, read from a cache as the hub's client leaves it."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from softcue.errors import DataError
from softcue.plan import prepare
from tests.composing import train_config
from tests.running import train_one

COMMIT = "a" * 40


@pytest.fixture
def cached_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A set of two splits whose labels are class numbers, and -1 for none."""
    repo = tmp_path / "hub" / "datasets--org--films"
    reference = repo / "refs" / "refs" / "convert" / "parquet"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    for split, labels in {"train": [0, 1] * 12 + [-1], "test": [1, 0, 1, 0]}.items():
        texts = [f"the {split} film {at}" for at in range(len(labels))]
        rows = datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)
        file = repo / "snapshots" / COMMIT / "default" / split / "0000.parquet"
        file.parent.mkdir(parents=True)
        rows.to_parquet(file)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return "org/films"


def test_a_set_of_the_hub_trains_under_its_class_names(quick: list[str], cached_set: str) -> None:
    config = train_config(*quick, "data=hub", f"data.repo={cached_set}", "data.source.test_split=test")
    config.split.num_test = None
    record = train_one(config).record()
    assert record is not None
    assert (record.status, record.task) == ("complete", "films")
    assert record.settings["data"]["task"]["classes"] == ["bad", "good"]
    assert record.num_rows == {"train": 8, "validation": 0, "test": 4, "unlabelled": 1}


def test_an_unknown_split_and_a_set_that_is_not_cached_are_named(quick: list[str], cached_set: str) -> None:
    with pytest.raises(DataError, match=r"org/films has no split 'dev'; it has \['test', 'train'\]"):
        prepare(train_config(*quick, "data=hub", f"data.repo={cached_set}", "data.source.split=dev"))
    with pytest.raises(
        DataError, match=r"is not asked for org/other, as HF_HUB_OFFLINE is set\. Check data\.source\.repo"
    ):
        prepare(train_config(*quick, "data=hub", "data.repo=org/other"))
