"""Every trial of chosen.json, as a table: `python -m experiments.methods.trials` writes trials.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.methods.tuned import CHOSEN, RATE
from softcue.runs.atomic import write_atomic

TABLE = Path(__file__).parent / "trials.md"


def table() -> str:
    """One row a method: each trial's settings and mean macro-F1 over the folds."""
    lines = [
        "| method | trials: settings and macro-F1, mean of three folds | best |",
        "|---|---|---|",
    ]
    for method, found in sorted(json.loads(CHOSEN.read_text()).items()):
        trials = "; ".join(f"{_short(trial)}: {mean:.3f}" for trial, mean in found["trials"])
        lines.append(f"| {method} | {trials} | {_short(found['settings'])} |")
    return "\n".join(lines) + "\n"


def _short(settings: Sequence[str]) -> str:
    return " ".join(text.removeprefix(f"{RATE}=").removeprefix("prompt.method.") for text in settings)


if __name__ == "__main__":
    write_atomic(TABLE, table())
