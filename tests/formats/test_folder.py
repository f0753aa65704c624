"""Folders written whole: after a kill at any point, either the earlier or the new one has the name."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.errors import RunError
from softcue.formats.folder import recover_folder, write_folder
from softcue.runs.atomic import scratch_path
from tests.formats.killing import content, killed_before

EARLIER, NEW = {"a": b"earlier", "b": b"earlier"}, {"a": b"new", "c": b"new"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "export", EARLIER)
    write_folder(tmp_path / "export", NEW)
    assert content(tmp_path / "export") == NEW
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


STEPS = {
    "make": EARLIER,
    "first file": EARLIER,
    "second file": EARLIER,
    "move aside": EARLIER,
    "put in place": EARLIER,
    "remove scratch": NEW,
    "remove earlier": NEW,
    "none": NEW,
}


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_after_a_kill_at_any_step_a_whole_folder_has_the_name(tmp_path: Path, step: int) -> None:
    folder = tmp_path / "export"
    write_folder(folder, EARLIER)
    killed_before(step, folder, NEW)
    recover_folder(folder)
    assert content(folder) == list(STEPS.values())[step]
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    write_folder(folder, NEW)
    assert content(folder) == NEW


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    scratch_path(tmp_path / "export", "new").mkdir()
    scratch_path(tmp_path / "export", "old").mkdir()
    for name in (".export.elsewhere-7-0123abcd.new", ".exports.elsewhere-7-0123abcd.old"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.iterdir())
    recover_folder(tmp_path / "export")
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_the_earlier_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    write_folder(folder, EARLIER)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
        write_folder(folder, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert content(folder) == EARLIER


def test_an_interrupt_between_the_renames_leaves_the_earlier_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "export", Path.rename
    write_folder(folder, EARLIER)

    def interrupted(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert content(folder) == EARLIER
