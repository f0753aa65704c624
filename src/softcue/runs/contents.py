"""What a path holds, as a digest: a run's name follows the weights and prompts it uses, not their address.

A digest is kept in a small index, so that a file of gigabytes is read once and not at every start.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from softcue.errors import RunError
from softcue.runs.atomic import write_atomic

PROMPT = ("prompt.safetensors",)
ADAPTER = ("adapter_config.json", "adapter_model.*")
MODEL = (
    *("config.json", "*.safetensors", "*.bin", "*.pt", "*.gguf"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model"),
)
"""The files of a folder that determine what it gives, by what the folder is."""

SETTLED_NS = 2_000_000_000
"""A file that changed a moment ago may change again within the clock's resolution: it is not indexed."""


def content_digest(path: Path, *, cache: Path | None) -> str | None:
    """64 hexadecimal digits over a file, or over what determines a run's, an adapter's or a model's folder.

    None if there is no such file. `cache` is the folder that keeps the index.
    """
    path = path.expanduser()
    if path.is_file():
        return _of_file(path, cache)
    files = _files(path)
    if not files:
        return None
    named = [(file.name, _of_file(file, cache)) for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    kinds = (PROMPT, ADAPTER, MODEL)
    mark = {kind: kind[0] for kind in kinds}
    patterns: Sequence[str] = next((kind for kind in kinds if (folder / mark[kind]).is_file()), ())
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def _of_file(file: Path, cache: Path | None) -> str:
    found = file.stat()
    # The second is set by every write, also by one that puts the first back.
    changed_ns = found.st_mtime_ns, found.st_ctime_ns
    if time.time_ns() - max(changed_ns) < SETTLED_NS:
        return _read(file)
    return _indexed(file.resolve(), found.st_size, changed_ns, cache)


@lru_cache(maxsize=4096)
def _indexed(file: Path, size: int, changed_ns: tuple[int, int], cache: Path | None) -> str:
    if cache is None:
        return _read(file)
    key = hashlib.sha256(json.dumps([str(file), size, changed_ns]).encode()).hexdigest()
    entry = cache / "digests" / key[:32]
    with suppress(OSError):
        known = entry.read_text()
        if len(known) == 64 and set(known) <= set("0123456789abcdef"):
            return known
    digest = _read(file)
    # Without an index the file is read again next time.
    with suppress(OSError, RunError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(entry, digest)
    return digest


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
