"""Attacks on the files that softcue writes: kills at any moment, and two processes on one output."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from softcue.errors import SoftcueError
from softcue.formats.folder import recover_folder, write_folder
from softcue.predict.command import predict_table
from softcue.predict.settings import PredictSettings
from tests.formats.killing import content, killed_before
from tests.predict.cheap import CheapPrompt, names, predict_mortally, settings_of, table

ROWS = 30
SHARE = 20
"""One process is killed, or two started, for so many inputs of other kinds."""
Tries = Iterator[Callable[[], object]]
_FORK = multiprocessing.get_context("fork")


def attacks(*, count: int, seed: int) -> Iterator[tuple[str, Tries]]:
    """Each kind of attack and its tries."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("softcue.trained.load", lambda folder, task: CheapPrompt())
        # One line a prediction.
        patch.setattr("softcue.predict.command.say", lambda *_, **__: None)
        table(ROWS)
        for output, more in (("whole.csv", []), ("out.csv", []), ("over.csv", ["overwrite=true"])):
            SETTINGS[output] = settings_of("input=in.csv", "chunk_rows=2", f"output={output}", *more)
        predict_table(SETTINGS["whole.csv"])
        yield "a prediction killed before a change to the disk", _killed_predictions()
        yield "a prediction killed by kill -9 at a random moment", _killed_processes(count // SHARE, seed)
        yield "two predictions on one output", _two_at_once(count // SHARE)
        yield "an export killed before a change to the disk", _killed_exports()


SETTINGS: dict[str, PredictSettings] = {}


def _expect_whole(output: str) -> None:
    assert Path(output).read_bytes() == Path("whole.csv").read_bytes(), "other bytes"
    Path(output).unlink()
    left = [name for name in names() if not name.endswith(".tmp")]
    assert left == ["in.csv", "whole.csv"], left


def _killed_predictions() -> Tries:
    for output in ("out.csv", "over.csv"):
        steps = 0
        while predict_mortally(SETTINGS[output], steps=steps):
            yield partial(_resume, output)
            steps += 1
        Path(output).unlink()


def _resume(output: str) -> None:
    predict_table(SETTINGS[output])
    _expect_whole(output)


def _killed_processes(count: int, seed: int) -> Tries:
    rng = random.Random(seed)
    began = time.perf_counter()
    _start("out.csv").join()
    took = time.perf_counter() - began
    Path("out.csv").unlink()
    for _ in range(count):
        process = _start("out.csv")
        time.sleep(rng.random() * took)
        process.kill()
        process.join()
        yield _resume_or_complete


def _resume_or_complete() -> None:
    if not Path("out.csv").exists() or Path("out.csv.part.json").exists():
        predict_table(SETTINGS["out.csv"])
    _expect_whole("out.csv")


def _two_at_once(count: int) -> Tries:
    for _ in range(count):
        both = [_start("out.csv"), _start("out.csv")]
        for process in both:
            process.join()
        yield partial(_expect_one, sorted(process.exitcode or 0 for process in both))


REFUSED = 3


def _expect_one(codes: list[int]) -> None:
    assert codes == [0, REFUSED], codes
    _expect_whole("out.csv")


def _start(output: str) -> multiprocessing.process.BaseProcess:
    process = _FORK.Process(target=_predict, args=(output,))
    process.start()
    return process


def _predict(output: str) -> None:
    try:
        predict_table(SETTINGS[output])
    except SoftcueError:
        os._exit(REFUSED)
    os._exit(0)


def _killed_exports() -> Tries:
    sizes = (1, 2, 5)
    for earlier in (0, *sizes):
        for new in sizes:
            step = 0
            while _kill_export(step, earlier, new):
                yield partial(_expect_a_whole_export, earlier, new)
                step += 1


EXPORT = Path("export")


def _files(count: int, word: bytes) -> dict[str, bytes]:
    return {f"file{number}": word for number in range(count)}


def _kill_export(step: int, earlier: int, new: int) -> bool:
    for path in Path().glob("*export*"):
        _remove(path)
    if earlier:
        write_folder(EXPORT, _files(earlier, b"earlier"))
    return killed_before(step, EXPORT, _files(new, b"new"))


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _expect_a_whole_export(earlier: int, new: int) -> None:
    recover_folder(EXPORT)
    whole = [_files(earlier, b"earlier"), _files(new, b"new")]
    assert content(EXPORT) in whole if EXPORT.exists() else not earlier, "no whole folder"
    write_folder(EXPORT, whole[1])
    assert content(EXPORT) == whole[1]
    assert [path.name for path in Path().iterdir() if "export" in path.name] == ["export"]
