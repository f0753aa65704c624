"""Content with its digest at the end, so that damage is noticed before anything reads the content."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from softcue.errors import RunError

DIGITS = 64
"""Hexadecimal digits of a SHA-256 digest."""


def sealed(content: bytes) -> bytes:
    """The content with its digest behind it, which torch.load and arrow streams skip."""
    return content + _digest(content)


def read_sealed(path: Path) -> bytes:
    """The content that was sealed.

    Raises:
        RunError: no such file, or not exactly what `sealed` made.
    """
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from error
    content, digest = whole[:-DIGITS], whole[-DIGITS:]
    if digest != _digest(content):
        raise RunError(f"{path} is damaged or another program's: the digest at its end is not its content's")
    return content


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that it is kept and does not stop the next start either."""
    aside = path.with_name(f"{path.name}.set_aside")
    # Where nothing can be renamed, the file is replaced by what comes next.
    with suppress(OSError):
        path.replace(aside)
    return aside


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
