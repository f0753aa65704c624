"""The code of README.md and the documentation, as a reader would type it.

A command that no test can run says so in the comment at its end: `# needs a model hub`, `a GPU` or
`a cluster`. All others are run, or checked, by test_commands.py.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docs.fill import PAGES, ROOT

NEEDS = ("a model hub", "a GPU", "a cluster")
RECORDED = (
    "make",
    "pip",
    "python",
    "source",
    *(
        f"softcue-{name}"
        for name in ("train", "predict", "chain", "data", "report", "export", "inspect", "prompts", "watch")
    ),
)
"""The programs that pages name; bash knows no other, apart from those that make up arguments."""

_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NEEDS = re.compile(r"needs (.*)$")
_RECORDER = """
set -euo pipefail
record() { printf '%s\\0' "$@" > "$RECORD"; [ -t 0 ] || cat > "$RECORD.stdin"; }
"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command as it stands on a page, without its comment, and what it needs that a test does not have."""

    page: str
    text: str
    needs: str | None


@dataclass(frozen=True, kw_only=True)
class Call:
    """A program with its arguments, as bash would start it, and the bytes on its stdin."""

    program: str
    arguments: tuple[str, ...]
    stdin: bytes


def commands(page: Path) -> list[Command]:
    """The commands of a page's bash blocks, in order."""
    name = str(page.relative_to(ROOT))
    lines = (line for block in _BLOCK.findall(page.read_text()) for line in _logical_lines(block))
    found = []
    for line in lines:
        text, _, comment = line.partition(" # ")
        needs = _NEEDS.search(comment)
        found.append(Command(page=name, text=text.strip(), needs=needs[1] if needs else None))
    return found


def pages_with_commands() -> list[Path]:
    """The pages that have a bash block."""
    return [page for page in PAGES if commands(page)]


def python_blocks(page: Path) -> list[str]:
    """A page's Python, apart from the files that it shows in full."""
    return re.findall(r"(?<!-->\n)^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """The code spans in a page's prose."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def calls(text: str, *, cwd: Path, scratch: Path) -> Call:
    """The call that bash makes of a command: quotes, globs and substitutions are bash's own work.

    Raises:
        AssertionError: the command is not a call of one of RECORDED.
    """
    record = scratch / "call"
    record.unlink(missing_ok=True)
    Path(f"{record}.stdin").unlink(missing_ok=True)
    functions = "".join(f'{name}() {{ record {name} "$@"; }}\n' for name in RECORDED)
    ended = subprocess.run(
        ["bash", "-c", f"{_RECORDER}{functions}{text}"],
        cwd=cwd,
        env={**os.environ, "RECORD": str(record)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, f"{text}: {ended.stderr}"
    assert record.is_file(), f"{text}: no test knows this program"
    program, *arguments = record.read_text().split("\0")[:-1]
    return Call(program=program, arguments=tuple(arguments), stdin=Path(f"{record}.stdin").read_bytes())


def _logical_lines(block: str) -> Iterator[str]:
    """The lines of a block that are no comment, continued ones joined."""
    for line in block.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line
