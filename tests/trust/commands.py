"""All that softcue does with a folder from elsewhere, and a canary that shows whether anything of it ran."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from softcue.errors import SoftcueError
from softcue.export.adapter import load_all, peft_files
from softcue.inspect.reading import read
from softcue.inspect.tables import full_table, tables
from softcue.tables.render import csv_text, markdown, terminal
from softcue.trained import load
from tests.trust.payloads import SECRET
from tests.trust.tiny_runs import TEXTS

VALUE = "very-secret-4711"
"""What the environment variable SECRET holds."""


@contextmanager
def canary(root: Path) -> Iterator[Path]:
    """An empty folder under `root`, in which whatever a payload runs leaves something."""
    folder = root / "marks"
    folder.mkdir()
    (root / "softcue_canary.py").write_text(
        f"import pathlib\npathlib.Path({str(folder / 'imported')!r}).touch()\nclass Thing: pass\n"
    )
    OmegaConf.register_new_resolver("softcue_canary", (folder / "resolved").touch, replace=True)
    with pytest.MonkeyPatch.context() as patch:
        # Not read from a YAML file ten thousand times.
        patch.setattr("softcue.trained.default_cache", lambda: str(root / "cache"))
        patch.syspath_prepend(root)
        patch.setenv(SECRET, VALUE)
        yield folder
    OmegaConf.clear_resolver("softcue_canary")
    sys.modules.pop("softcue_canary", None)


def record_of(folder: Path) -> Any:
    """A folder's record as plain JSON."""
    return json.loads((folder / "record.json").read_text())


def send(folder: Path, record: Any) -> Path:
    """Put another record into a folder."""
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
