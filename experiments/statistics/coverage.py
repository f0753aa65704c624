"""Simulate runs whose true accuracy is known, and count how often the report's intervals hold it.

`python -m experiments.statistics.coverage` writes coverage.json and coverage.md; about eight minutes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from softcue.runs.atomic import write_atomic
from tests.statistics.simulation import Scenario, coverage

HERE = Path(__file__).parent
SIMULATIONS = 2000
SIZES = (
    (2, None, 400, 0.01),
    (2, None, 400, 0.03),
    (3, None, 100, 0.05),
    (5, None, 200, 0.0),
    (5, None, 200, 0.03),
    (5, None, 400, 0.05),
    (10, None, 400, 0.03),
    (15, 3, 400, 0.03),
    (25, 5, 400, 0.03),
)
SCENARIOS = [
    Scenario(runs=runs, draws=draws, rows=rows, between=between, shared_rows=shared)
    for shared in (True, False)
    for runs, draws, rows, between in SIZES
    if shared or draws is None
]


def main() -> None:
    """Write both files."""
    found = [(scenario, coverage(scenario, simulations=SIMULATIONS, seed=0)) for scenario in SCENARIOS]
    content = [asdict(scenario) | asdict(covered) for scenario, covered in found]
    lines = [
        "| runs | draws | test rows | deviation | rows | report's interval | t-interval over runs |",
        "|---:|---:|---:|---:|---|---:|---:|",
    ]
    for scenario, covered in found:
        rows = "shared" if scenario.shared_rows else "their own"
        lines.append(
            f"| {scenario.runs} | {scenario.draws or '–'} | {scenario.rows} | {scenario.between} | {rows} "
            f"| {covered.ours:.3f} | {covered.runs_alone:.3f} |"
        )
    write_atomic(HERE / "coverage.json", json.dumps(content, indent=1) + "\n")
    write_atomic(HERE / "coverage.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
