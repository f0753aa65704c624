"""A run's name follows what its paths hold, wherever they lie."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from softcue.build import build_backbone
from softcue.plan import prepare
from softcue.runs import contents
from softcue.runs.contents import content_digest
from softcue.runs.identity import run_id
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.tiny_backbone import save_tiny_backbone


@pytest.fixture(autouse=True)
def settled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been written long ago."""
    if "a_moment_ago" not in request.node.name:
        monkeypatch.setattr(contents, "SETTLED_NS", 0)


def write(path: Path, content: bytes) -> Path:
    """A file with the time stamp of another, as a careful copy leaves it."""
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


def named(path: Path, setting: str, *, cache: Path) -> str:
    group, _, name = setting.partition(".")
    value = [str(path)] if setting == "objective.teachers" else str(path)
    settings = {group: {name: value}, "paths": {"cache": str(cache)}}
    return run_id(method="m", settings=settings, data_fingerprint="f")


@pytest.fixture
def digest(tmp_path: Path) -> Callable[[Path], str | None]:
    return lambda path: content_digest(path, cache=tmp_path / "cache")


def test_a_changed_weight_changes_the_runs_name_and_a_copy_keeps_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = named(model(tmp_path / "a"), "backbone.path", cache=cache)
    assert named(model(tmp_path / "b"), "backbone.path", cache=cache) == first
    write(tmp_path / "b" / "README.md", b"another text")
    assert named(tmp_path / "b", "backbone.path", cache=cache) == first
    assert named(model(tmp_path / "b", last=b"c"), "backbone.path", cache=cache) != first


@pytest.mark.parametrize("setting", ["prompt.path", "objective.teachers"])
def test_a_source_prompt_counts_by_what_it_is(tmp_path: Path, setting: str) -> None:
    one = write(tmp_path / "one" / "prompt.safetensors", b"1").parent
    same = write(tmp_path / "two" / "prompt.safetensors", b"1").parent
    other = write(tmp_path / "three" / "prompt.safetensors", b"2").parent
    write(one / "record.json", b"{}")
    names = [named(path, setting, cache=tmp_path / "cache") for path in (one, same, other)]
    assert names[0] == names[1] != names[2]


def test_a_path_to_nothing_counts_as_its_text(tmp_path: Path) -> None:
    names = {named(tmp_path / name, "prompt.path", cache=tmp_path / "cache") for name in "ab"}
    assert len(names) == 2


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
    (second,) = prepare(train_config(*overrides))
    assert second.folder.path != first.folder.path
    assert build_backbone(train_config(*overrides)) is not before
