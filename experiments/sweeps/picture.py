"""Draw methods.svg: macro-F1 of four methods over five seeds, from the records under `runs`."""

from __future__ import annotations

from pathlib import Path

import softcue

HERE = Path(__file__).parent

if __name__ == "__main__":
    softcue.compare(HERE / "runs").plot("forest").save(HERE / "methods.svg")
