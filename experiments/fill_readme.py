"""Puts generated tables where README.md names them: between `<!-- begin FILE -->` and its end."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- begin (?P<file>\S+) -->\n).*?(<!-- end (?P=file) -->)", re.DOTALL)


def filled(text: str, root: Path) -> str:
    """The text with every named file's content in its place."""
    return BLOCK.sub(lambda block: block[1] + (root / block["file"]).read_text() + block[3], text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(), ROOT))
