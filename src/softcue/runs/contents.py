"""Digests of files and folders: a run's id follows the content of the weights and prompts it uses.

A small index keeps them, so that a file of gigabytes is read once and not at every start.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from softcue.errors import RunError
from softcue.runs.atomic import write_atomic

PROMPT = ("prompt.safetensors",)
ADAPTER = ("adapter_config.json", "adapter_model.*")
MODEL = (
    *("config.json", "generation_config.json", "*.safetensors", "*.bin", "*.pt", "*.gguf"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "chat_template.jinja"),
)
"""The files that determine the content of a folder, for each kind of folder."""

SETTLED_NS = 2_000_000_000
"""A file that changed more recently is not indexed: it may change again within the clock's resolution."""


def content_digests(paths: Iterable[str], *, cache: Path | None) -> dict[str, str]:
    """The digest of each path at which there is something to read."""
    digests = {path: content_digest(Path(path), cache=cache) for path in paths}
    return {path: digest for path, digest in digests.items() if digest is not None}


def content_digest(path: Path, *, cache: Path | None) -> str | None:
    """64 hexadecimal digits over a file, or over the files that determine a run, an adapter or a model.

    None if there is none of them. `cache` is the folder that keeps the index.
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
    # The second changes with every write, even if the first is set back.
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
