"""How many epochs the demo needs, from validation folds alone: `python -m experiments.quickstart.table`.

Writes epochs.md from the records under `epochs`: three folds of 50 labels, two seeds, 10 or 15 epochs.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

from softcue.runs.atomic import write_atomic
from softcue.runs.store import list_records

HERE = Path(__file__).parent
FEW, MANY = 10, 15


def table() -> str:
    """A line for each method: both means, and the mean of paired differences with its 95 % t-interval."""
    found: dict[str, dict[int, dict[tuple[int, int], float]]] = defaultdict(lambda: defaultdict(dict))
    for record in list_records(HERE / "epochs").records:
        settings, value = record.settings, record.metrics["validation"]["macro_f1"]
        assert value is not None
        found[record.method][settings["trainer"]["max_epochs"]][settings["split"]["fold"], record.seed] = (
            value
        )
    lines = [
        f"| method | {FEW} epochs | {MANY} epochs | {FEW} ahead of {MANY} | pairs |",
        "|---|---:|---:|---:|---:|",
    ]
    for method, by_epochs in sorted(found.items()):
        pairs = sorted(by_epochs[FEW].keys() & by_epochs[MANY].keys())
        few, many = (np.array([by_epochs[count][pair] for pair in pairs]) for count in (FEW, MANY))
        low, high = stats.t.interval(
            0.95, len(pairs) - 1, loc=np.mean(few - many), scale=stats.sem(few - many)
        )
        difference = f"{np.mean(few - many):+.3f} [{low:+.3f}, {high:+.3f}]"
        lines.append(f"| {method} | {few.mean():.3f} | {many.mean():.3f} | {difference} | {len(pairs)} |")
    about = (
        "Macro-F1 on validation folds; folds share rows, so the intervals are narrower than they should be."
    )
    return "\n".join([*lines, "", about]) + "\n"


if __name__ == "__main__":
    write_atomic(HERE / "epochs.md", table())
