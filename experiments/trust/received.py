"""Attacks by a folder from elsewhere: payloads at every place of its records and configs, and in pickles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from softcue.formats.peft import CONFIG, WEIGHTS
from softcue.formats.peft_reader import open_adapter
from softcue.formats.peft_tensors import PICKLED_WEIGHTS
from softcue.trained import load
from tests.trust.commands import VALUE, canary, everything, record_of, send
from tests.trust.files import adapter_in
from tests.trust.payloads import additions, attempts, payloads
from tests.trust.tiny_runs import METHODS, TinyRuns

INTERPOLATIONS = ("environment", "environment inside text", "created", "resolver", "reference")
Tries = Iterator[Callable[[], object]]


def attacks(runs: TinyRuns, root: Path, *, count: int, seed: int) -> Iterator[tuple[str, Tries]]:
    """Each kind of attack and its tries."""
    with canary(root) as marks:
        yield "payloads in a record, by softcue.load", _by_load(runs, root, marks, 4 * count, seed)
        yield "payloads in a record, by every command", _by_commands(runs, root, marks, count // 2, seed)
        yield "interpolations in a record, by every command", _interpolations(runs, root, marks, count // 4)
        yield "payloads in an adapter's config", _in_config(root, marks, seed)
        yield "pickles that name code", _pickles(root, marks)


def _unharmed(marks: Path, use: Callable[[], object]) -> object:
    """Use it; an AssertionError if anything of it ran or a secret was shown, whatever else it did."""
    try:
        shown = use()
    finally:
        left = sorted(path.name for path in marks.iterdir())
        shutil.rmtree(marks)
        marks.mkdir()
        assert not left, f"ran: {left}"
    assert VALUE not in str(shown), "a secret was shown"
    return shown


def _every(count: int, total: int) -> int:
    return max(1, round(total / max(1, count)))


def _by_load(runs: TinyRuns, root: Path, marks: Path, count: int, seed: int) -> Tries:
    values, keys = list(payloads(marks).values()), list(additions(marks).values())
    for number, method in enumerate(METHODS):
        folder = shutil.copytree(runs(method), root / "load" / method)
        of_record = partial(attempts, record_of(folder), values, keys)
        total = len(METHODS) * sum(1 for _ in of_record(every=1, offset=0))
        for record in of_record(every=_every(count, total), offset=seed + number):
            yield partial(_unharmed, marks, partial(_load, folder, record))


def _by_commands(runs: TinyRuns, root: Path, marks: Path, count: int, seed: int) -> Tries:
    values, keys = list(payloads(marks).values()), list(additions(marks).values())
    for number, method in enumerate(METHODS):
        folder = shutil.copytree(runs(method), root / "commands" / method)
        of_record = partial(attempts, record_of(folder), values, keys)
        total = len(METHODS) * sum(1 for _ in of_record(every=1, offset=0))
        for record in of_record(every=_every(count, total), offset=seed + number):
            yield partial(_unharmed, marks, partial(_all, folder, record))


def _interpolations(runs: TinyRuns, root: Path, marks: Path, count: int) -> Tries:
    values = [payloads(marks)[name] for name in INTERPOLATIONS]
    folder = shutil.copytree(runs("prompt_tuning"), root / "interpolations")
    of_record = partial(attempts, record_of(folder), values, [], offset=0)
    total = sum(1 for _ in of_record(every=1))
    for record in of_record(every=_every(count, total)):
        yield partial(_unharmed, marks, partial(_all, folder, record))


def _load(folder: Path, record: Any) -> object:
    return load(send(folder, record))


def _all(folder: Path, record: Any) -> str:
    return everything(send(folder, record))


def _in_config(root: Path, marks: Path, seed: int) -> Tries:
    folder = root / "adapter"
    folder.mkdir()
    config = json.loads((adapter_in(folder) / CONFIG).read_text())
    values, keys = list(payloads(marks).values()), list(additions(marks).values())
    for changed in attempts(config, values, keys, every=1, offset=seed):
        yield partial(_unharmed, marks, partial(_open, folder, changed))


def _open(folder: Path, config: Any) -> object:
    (folder / CONFIG).write_text(json.dumps(config))
    return open_adapter(folder).bank().tensors().keys()


class _Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., object], arguments: Sequence[object]) -> None:
        self.call = (function, tuple(arguments))

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def _pickles(root: Path, marks: Path) -> Tries:
    folder = root / "pickled"
    folder.mkdir()
    (adapter_in(folder) / WEIGHTS).unlink()
    mark = str(marks / "pickled")
    calls = [
        _Call(os.mkdir, [mark]),
        _Call(os.system, [f"touch {mark}"]),
        _Call(exec, [f"__import__('os').mkdir({mark!r})"]),
        _Call(eval, [f"__import__('os').mkdir({mark!r})"]),
        _Call(subprocess.check_call, [["touch", mark]]),
        _Call(Path.touch, [Path(mark)]),
        _Call(torch.save, [{}, mark]),
        _Call(getattr, ["", "__class__"]),
    ]
    for call in calls:
        for content in (call, {"prompt_embeddings": call}, [call], {call.call[0].__name__: [call]}):
            for as_zip in (True, False):
                torch.save(content, folder / PICKLED_WEIGHTS, _use_new_zipfile_serialization=as_zip)
                yield partial(_unharmed, marks, lambda: open_adapter(folder).bank().tensors().keys())
