"""Put generated tables where README.md and the pages name them, between `<!-- begin FILE -->` and its end."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments").glob("**/README.md")),
)
BLOCK = re.compile(r"(<!-- begin (?P<file>\S+) -->\n).*?(<!-- end (?P=file) -->)", re.DOTALL)


def filled(text: str) -> str:
    """The text with the present content of every file that it names."""
    return BLOCK.sub(lambda block: block[1] + (ROOT / block["file"]).read_text() + block[3], text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
