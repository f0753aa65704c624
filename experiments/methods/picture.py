"""Draw tuned.svg: every method at equal budgets, from the records under `tuned_runs`."""

from __future__ import annotations

from pathlib import Path

import softcue

HERE = Path(__file__).parent
PICTURE = HERE / "tuned.svg"


def draw(path: Path) -> None:
    """The report's own plot; the same records give the same bytes."""
    softcue.compare(HERE / "tuned_runs").plot("forest").save(path)


if __name__ == "__main__":
    draw(PICTURE)
