"""The hub of the tests, and what it serves: a tiny BLOOM and a table of RAFT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import datasets
import pytest
from huggingface_hub import constants, get_session
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

import softcue.hub
from softcue.backbone.load import _load
from softcue.build.backbone import _backbone
from tests.hub.server import Hub
from tests.tiny import tiny_model

MODEL, DATA = "bigscience/bloomz-560m", "datasets/ought/raft"
WORDS = [
    "?",
    "<s>",
    "</s>",
    "<pad>",
    "complaint",
    "no",
    "Tweet",
    "text",
    ":",
    "Label",
    "the",
    "late",
    "plane",
]


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("served")
    tiny_model("bloom").save_pretrained(folder)
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>").save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("raft")
    names = ["Unlabeled", "complaint", "no complaint"]
    features = datasets.Features(
        {
            "Tweet text": datasets.Value("string"),
            "ID": datasets.Value("int32"),
            "Label": datasets.ClassLabel(names=names),
        }
    )
    files = {}
    for split, labels in (("train", [1, 2] * 25), ("test", [0] * 4)):
        rows = {
            "Tweet text": [f"the plane {number}" for number in range(len(labels))],
            "ID": list(range(len(labels))),
            "Label": labels,
        }
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / split))
        files[f"twitter_complaints/{split}/0000.parquet"] = (folder / split).read_bytes()
    return files


@pytest.fixture
def hub(
    model_files: dict[str, bytes],
    data_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Hub]:
    """A hub that the client asks, with an empty cache, and little patience."""
    get_session()  # once, since it takes longer than this hub's client waits
    server = Hub()
    server.files = {MODEL: model_files, DATA: data_files}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    use_endpoint(monkeypatch, server.url)
    for name, seconds in (("ANSWER_S", 0.3), ("STALL_S", 0.9), ("BACKOFF_S", 0.01)):
        monkeypatch.setattr(softcue.hub, name, seconds)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    # Another test's model of this name is another one.
    _load.cache_clear()
    _backbone.cache_clear()


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """As HF_ENDPOINT does, which is read once in a process."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
