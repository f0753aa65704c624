"""A run's id follows the content of its paths, not their address."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from softcue.build.backbone import build_backbone
from softcue.plan import prepare
from softcue.runs import contents
from softcue.runs.contents import content_digest, content_digests
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone


@pytest.fixture(autouse=True)
def settled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every file as written long ago."""
    if "a_moment_ago" not in request.node.name:
        monkeypatch.setattr(contents, "SETTLED_NS", 0)


def write(path: Path, content: bytes) -> Path:
    """A file with a fixed time stamp, as a copy that keeps time stamps leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    return path


def model(folder: Path, *, last: bytes = b"b") -> Path:
    write(folder / "config.json", b"{}")
    write(folder / "model.safetensors", b"a" * (2 << 20) + last)
    write(folder / "tokenizer.json", b"{}")
    write(folder / "README.md", b"a model")
    return folder


@pytest.fixture
def digest(tmp_path: Path) -> Callable[[Path], str | None]:
    return lambda path: content_digest(path, cache=tmp_path / "cache")


def test_a_models_digest_follows_its_weights_and_not_its_readme(
    tmp_path: Path, digest: Callable[[Path], str | None]
) -> None:
    first = digest(model(tmp_path / "a"))
    assert digest(model(tmp_path / "b")) == first
    write(tmp_path / "b" / "README.md", b"another text")
    assert digest(tmp_path / "b") == first
    assert digest(model(tmp_path / "b", last=b"c")) != first


def test_a_runs_digest_follows_its_prompt_and_not_its_record(
    tmp_path: Path, digest: Callable[[Path], str | None]
) -> None:
    one = write(tmp_path / "one" / "prompt.safetensors", b"1").parent
    same = write(tmp_path / "two" / "prompt.safetensors", b"1").parent
    other = write(tmp_path / "three" / "prompt.safetensors", b"2").parent
    write(one / "record.json", b"{}")
    assert digest(one) == digest(same) != digest(other)


def test_a_path_to_nothing_has_no_digest(tmp_path: Path) -> None:
    there = str(write(tmp_path / "there", b"1"))
    assert content_digests([there, str(tmp_path / "absent")], cache=None).keys() == {there}


def test_a_file_is_read_once_in_all_processes(
    tmp_path: Path, digest: Callable[[Path], str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "model.gguf", b"weights")
    before = digest(file)
    contents._indexed.cache_clear()  # as another process would find it
    monkeypatch.setattr(contents, "_read", lambda _: pytest.fail("read again"))
    assert digest(file) == before


def test_a_damaged_index_is_replaced(tmp_path: Path, digest: Callable[[Path], str | None]) -> None:
    file = write(tmp_path / "model.gguf", b"weights")
    before = digest(file)
    (entry,) = (tmp_path / "cache" / "digests").iterdir()
    entry.write_text("half a dig")
    contents._indexed.cache_clear()
    assert digest(file) == before
    assert entry.read_text() == before


def test_an_index_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "cache", b"a file where the folder should be")
    file = write(tmp_path / "model.gguf", b"weights")
    assert content_digest(file, cache=tmp_path / "cache") == content_digest(file, cache=None)


def test_a_file_that_changed_a_moment_ago_is_not_indexed(
    tmp_path: Path, digest: Callable[[Path], str | None]
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    digest(file)
    assert not (tmp_path / "cache").exists()


def test_the_same_model_under_another_address_has_one_digest(
    tmp_path: Path, digest: Callable[[Path], str | None]
) -> None:
    shutil.copytree(model(tmp_path / "a"), tmp_path / "copy")
    assert digest(tmp_path / "a") == digest(tmp_path / "copy")


def test_a_run_on_changed_weights_is_another_run_and_loads_them(tmp_path: Path) -> None:
    folder = save_tiny_backbone(tmp_path / "backbone", CACHE)
    overrides = ("experiment=quickstart", "backbone=local", f"backbone.path={folder}", f"paths.cache={CACHE}")
    (first,), before = prepare(train_config(*overrides)), build_backbone(train_config(*overrides))
    assert build_backbone(train_config(*overrides)) is before
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1  # the last weight's sign
    weights.write_bytes(changed)
    (changed_run,) = prepare(train_config(*overrides))
    assert changed_run.folder.path != first.folder.path
    assert build_backbone(train_config(*overrides)) is not before
