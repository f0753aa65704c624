"""Files are written whole or not at all."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from softcue.errors import RunError
from softcue.runs.atomic import atomic_path, scratch_path, write_atomic


@contextmanager
def disk_for(num_bytes: int) -> Iterator[None]:
    """Make the kernel refuse bytes beyond a limit in every file, half-way through a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_half(path: Path, error: BaseException) -> None:
    """Raise an error in the middle of writing a file."""
    with atomic_path(path) as temporary:
        temporary.write_text("half of")
        raise error


def write_to_full_device(path: Path) -> None:
    """Write to a device on which every write fails with ENOSPC."""
    with atomic_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_bytes(b"x" * 10_000)


def test_text_and_bytes_are_written_unchanged(tmp_path: Path) -> None:
    write_atomic(tmp_path / "text", "süß\n")
    write_atomic(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "text").read_bytes() == "süß\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "bytes"}


def test_an_exception_in_mid_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "record.json", ZeroDivisionError())
    assert list(tmp_path.iterdir()) == []


def test_an_exception_in_mid_write_keeps_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_atomic(path, "the earlier one")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt())
    assert path.read_text() == "the earlier one"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_does_not_exist_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_a_write_that_the_kernel_truncates_leaves_no_file_and_names_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with disk_for(4096), pytest.raises(RunError, match=r"record\.json cannot be written .*paths\.runs="):
        write_atomic(path, b"x" * 10_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No space left on device.*paths\.runs="):
        write_to_full_device(tmp_path / "record.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"Not a directory.*paths\.runs="):
        write_atomic(tmp_path / "file" / "record.json", "{}")


def test_what_a_killed_process_left_is_removed_by_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "last.ckpt", tmp_path / "record.json"
    own = scratch_path(path, "tmp")
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 2**22 + 1)  # above any number that Linux gives a process
        dead, of_another_file = scratch_path(path, "tmp"), scratch_path(other, "tmp")
        patch.setattr("socket.gethostname", lambda: "elsewhere")
        elsewhere = scratch_path(path, "tmp")
    # A process number is given again: this one's owner began after the file was written.
    reused = scratch_path(path, "tmp")
    for left in (own, dead, of_another_file, elsewhere, reused):
        left.write_bytes(b"half")
    began = psutil.Process().create_time()
    monkeypatch.setattr("softcue.runs.atomic.changed_at", lambda at: began + (-9 if at == reused else 9))
    write_atomic(path, "whole")
    assert {left.name for left in tmp_path.iterdir()} == {
        left.name for left in (path, own, of_another_file, elsewhere)
    }


def test_a_folder_that_has_gone_is_named_with_what_makes_it_again(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"last\.ckpt cannot be written: there is no folder .* start the command again"
    ):
        write_atomic(tmp_path / "gone" / "last.ckpt", b"")
