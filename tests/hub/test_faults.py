"""Every fault of the hub is one sentence that names its cause and the way out, for models and data."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from softcue.backbone.base import Backbone
from softcue.backbone.load import _load, from_hub
from softcue.data.hub_sets import HubSet
from softcue.data.sources import Raft
from softcue.data.task import Task
from softcue.errors import BackboneError, DataError, SoftcueError
from tests.composing import train_config
from tests.hub.conftest import MODEL, use_endpoint
from tests.hub.server import Hub
from tests.running import train_one


def load_model() -> Backbone:
    return from_hub(
        repo=MODEL,
        name="bloomz_560m",
        dtype="float32",
        engine="auto",
        gradient_checkpointing=False,
        revision="main",
    )


TASK = Task(
    name="complaints",
    template="{Tweet text} :",
    classes=("complaint", "no complaint"),
    verbalizer={"complaint": "complaint", "no complaint": "no complaint"},
    end_token=False,
)


def load_data() -> object:
    return Raft(subset="twitter_complaints", folder=None).load(TASK)


def load_set() -> object:
    return HubSet(
        repo="ought/raft",
        subset="twitter_complaints",
        split="train",
        test_split=None,
        label_column="Label",
        id_column="ID",
    ).load(TASK)


LOADERS: dict[str, tuple[Callable[[], object], type[SoftcueError], str]] = {
    "model": (load_model, BackboneError, r"backbone=local backbone\.path=FOLDER"),
    "data": (load_data, DataError, r"data\.source\.folder=FOLDER"),
    "set": (load_set, DataError, r"data=table data\.source\.path=FILE"),
}
FAULTS = {
    "hanging": r"does not answer in time for .* \(ReadTimeout",
    "resetting": r"cannot be reached for .* \(\w+Error: ",
    "captive portal": r"answers with something else .* login page .* open it in a browser",
    "no such repository": r"has no (model|dataset) .* check its name, or log in with `hf auth login`",
    "not logged in": r"has no (model|dataset) .*, or not for everyone: .* log in with `hf auth login`",
    "gated": r"only to those who have accepted its terms: accept them on its page",
    "no such revision": r"has no revision (main|refs/convert/parquet) of",
    "too many requests": r"\(status 429\) has had too many requests .* wait a few minutes",
    "out of order": r"\(status 503\) cannot give .* now: start again later",
    "truncated": r"has sent nothing new of .* for 0\.9 seconds|incompletely",
    "stalling": r"has sent nothing new of .* for 0\.9 seconds",
    "garbage": r"sent another content for .* than it announced, which was removed: start again",
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_with_its_cause_and_the_way_out(
    hub: Hub, fault: str, kind: str, tmp_path: Path
) -> None:
    load, error, way_out = LOADERS[kind]
    hub.fault = fault
    began = time.monotonic()
    with pytest.raises(error, match=rf"{hub.url}.*({FAULTS[fault]}).*{way_out}") as raised:
        load()
    assert time.monotonic() - began < 10
    assert len(str(raised.value).splitlines()) == 1
    if fault != "stalling":  # its download holds a lock until it ends
        hub.fault = None
        load()  # what a fault left in the cache is no hindrance


@pytest.mark.parametrize("kind", LOADERS)
def test_a_hub_that_nothing_listens_for_is_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    load, error, way_out = LOADERS[kind]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
    use_endpoint(monkeypatch, nowhere)
    with pytest.raises(error, match=rf"{nowhere} cannot be reached for .*ConnectError.*{way_out}"):
        load()


@pytest.mark.parametrize("fault", ["out of order", "resetting", "hanging", "too many requests"])
def test_one_fault_in_passing_is_not_noticed(hub: Hub, fault: str) -> None:
    hub.fault, hub.passing = fault, 1
    assert load_model().spec.num_layers == 3


def test_what_is_cached_is_read_without_the_hub(hub: Hub) -> None:
    load_model()
    load_data()
    hub.asked.clear()
    hub.fault = "hanging"
    load_model()
    load_data()
    assert not hub.asked


def test_a_model_whose_weights_are_not_cached_is_fetched_or_named(hub: Hub) -> None:
    load_model()
    (weights,) = Path(constants.HF_HUB_CACHE).rglob("model.safetensors")
    weights.resolve().unlink()
    weights.unlink()
    hub.fault = "out of order"
    with pytest.raises(BackboneError, match=r"\(status 503\) cannot give bigscience/bloomz-560m now"):
        load_model()
    hub.fault = None
    hub.asked.clear()
    load_model()
    assert [path for path in hub.asked if "resolve" in path] == [f"/{MODEL}/resolve/main/model.safetensors"]


def test_a_damaged_file_in_the_cache_is_named_with_what_to_delete(hub: Hub) -> None:
    load_model()
    load_data()
    cache = Path(constants.HF_HUB_CACHE)
    (weights,) = cache.rglob("model.safetensors")
    weights.resolve().write_bytes(b"garbage" * 99)
    _load.cache_clear()
    with pytest.raises(BackboneError, match=rf"cannot be loaded .* delete {weights.parent} to fetch"):
        load_model()
    for table in cache.rglob("0000.parquet"):
        table.resolve().write_bytes(b"garbage" * 99)
    with pytest.raises(DataError, match=r"0000\.parquet, from ought/raft .* is damaged .* delete it"):
        load_data()


def test_a_cache_that_cannot_be_written_is_named(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(blocked))
    for load, error, _ in LOADERS.values():
        with pytest.raises(error, match=rf"cannot be kept in {blocked} \(Not a directory\): .* HF_HOME"):
            load()


def test_a_full_disk_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(BackboneError, match=r"cannot be kept in .* \(No space left on device\): free space"):
        load_model()


def test_an_offline_client_is_told_by_its_variable(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"is not asked for .*, as HF_HUB_OFFLINE is set"):
        load_model()


def test_the_default_command_runs_end_to_end(hub: Hub, tmp_path: Path) -> None:
    folder = train_one(
        train_config(
            "trainer.max_epochs=2",
            "trainer.enable_progress_bar=false",
            "callbacks.progress_bar=null",
            f"paths.runs={tmp_path / 'runs'}",
            f"paths.cache={tmp_path / 'cache'}",
        )
    )
    record = folder.record()
    assert record is not None
    assert (record.status, record.backbone, record.task) == (
        "complete",
        "bloomz_560m",
        "raft_twitter_complaints",
    )
    assert record.num_rows["train"] + record.num_rows["test"] == 50
