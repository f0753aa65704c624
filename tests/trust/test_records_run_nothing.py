"""A received folder runs no code: every place of a record is tried, through every command that reads one."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
from omegaconf import OmegaConf

from softcue.errors import SoftcueError
from softcue.export.adapter import load_all, peft_files
from softcue.inspect.reading import read
from softcue.inspect.tables import full_table, tables
from softcue.tables.render import csv_text, markdown, terminal
from softcue.trained import load
from tests.trust.conftest import METHODS, TEXTS, Runs
from tests.trust.payloads import SECRET, additions, extended, found, payloads, places, replaced

VALUE = "very-secret-4711"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not read from a YAML file ten thousand times."""
    monkeypatch.setattr("softcue.trained.default_cache", lambda: str(tmp_path / "cache"))


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, in which whatever a payload runs leaves something."""
    folder = tmp_path / "marks"
    folder.mkdir()
    (tmp_path / "softcue_canary.py").write_text(
        f"import pathlib\npathlib.Path({str(folder / 'imported')!r}).touch()\nclass Thing: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(SECRET, VALUE)
    OmegaConf.register_new_resolver("softcue_canary", (folder / "resolved").touch, replace=True)
    yield folder
    OmegaConf.clear_resolver("softcue_canary")
    sys.modules.pop("softcue_canary", None)


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Callable[[str], Path]:
    """A run's folder as another person would send it."""

    def copy(method: str) -> Path:
        return shutil.copytree(runs(method), tmp_path / method)

    return copy


def record_of(folder: Path) -> Any:
    return json.loads((folder / "record.json").read_text())


def send(folder: Path, record: Any) -> Path:
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def everything(folder: Path) -> str:
    """All that the commands print and write for a folder, or their error."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        try:
            trained = load(folder)
            print(trained.predict(TEXTS[:2]), trained.record)
        except SoftcueError as error:
            return shown.getvalue() + str(error)
        for use in (_inspect, _export):
            try:
                use(folder)
            except SoftcueError as error:
                print(error)
    return shown.getvalue()


def _inspect(folder: Path) -> None:
    reading = read(load(folder), prompt=0, num_nearest=2, num_rows=2)
    print(terminal(tables(reading), reading.notes, 80))
    print(markdown(tables(reading), reading.notes, 80))
    print(csv_text([full_table(reading)], reading.notes, 80))


def _export(folder: Path) -> None:
    for content in peft_files(load_all(str(folder), task=None), name="export").values():
        print(content.decode(errors="replace"))


FIRING = (
    "call",
    "call with arguments",
    "evaluated text",
    "our module",
    "import",
    "nested call",
    "created",
    "resolver",
)


@pytest.mark.parametrize("name", FIRING)
def test_the_payloads_work_where_a_config_is_instantiated(marks: Path, name: str) -> None:
    settings = OmegaConf.create({"node": payloads(marks)[name]})
    OmegaConf.resolve(settings)
    hydra.utils.instantiate(settings)
    assert list(marks.iterdir())


def attempts(record: Any, marks: Path, *, every: int, offset: int) -> Iterator[Any]:
    """The record with a payload at each place, and with keys added to each mapping.

    One in `every` of the payloads is tried at a place, from `offset` on, each time another.
    """
    values, keys = list(payloads(marks).values()), list(additions(marks).values())
    for number, place in enumerate(places(record), start=offset):
        for payload in values[number % every :: every]:
            yield replaced(record, place, payload)
        if isinstance(found(record, place), dict):
            for more in keys[number % min(every, len(keys)) :: every]:
                yield extended(record, place, more)


def try_all(folder: Path, marks: Path, use: Callable[[Path], object], **which: int) -> str:
    """Use the folder with each of `attempts`: only errors of ours, and nothing is run."""
    count = accepted = 0
    for attempt in attempts(record_of(folder), marks, **which):
        send(folder, attempt)
        count += 1
        # Any other error fails the test.
        with suppress(SoftcueError):
            use(folder)
            accepted += 1
    assert list(marks.iterdir()) == []
    return f"{count} records, {accepted} accepted"


ONE_QUICKLY = [
    one if one == "prompt_tuning" else pytest.param(one, marks=pytest.mark.slow) for one in METHODS
]


@pytest.mark.parametrize("method", METHODS)
def test_a_payload_at_any_place_of_a_record_is_never_run_by_load(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    number = list(METHODS).index(method)
    print(method, try_all(copied(method), marks, load, every=16, offset=number))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_payload_at_any_place_of_a_record_is_never_run_by_load(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    print(method, try_all(copied(method), marks, load, every=1, offset=0))


@pytest.mark.parametrize("method", ONE_QUICKLY)
def test_a_payload_at_any_place_is_run_by_no_command_and_no_secret_is_shown(
    copied: Callable[[str], Path], marks: Path, method: str
) -> None:
    shown: list[str] = []
    folder = copied(method)
    assert "RunError" not in everything(folder)
    number = list(METHODS).index(method)
    print(method, try_all(folder, marks, lambda at: shown.append(everything(at)), every=61, offset=number))
    assert VALUE not in "".join(shown)
