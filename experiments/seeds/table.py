"""How many seeds and test rows settle a difference here, from the records of experiments/methods alone.

`python -m experiments.seeds.table` writes table.md and power.svg.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np

from experiments.matrix import Groups, Label
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.statistics.power import Design

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
RECORDS = HERE.parent / "methods" / "runs"
TABLE, PICTURE = HERE / "table.md", HERE / "power.svg"
DIFFERENCES = (0.02, 0.05, 0.10)
TEST_ROWS = (400, 1000, 3399)
SEEDS = (3, 5, 10, 16)
CURVE = range(2, 41)
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73")
EXAMPLES = (("prompt_tuning", "p_tuning"), ("prompt_tuning", "lora"), ("prompt_tuning", "tfidf"))


def label(record: RunRecord) -> Label | None:
    """The method, if it has parameters to train and so varies with the seed."""
    trains = record.parameters is not None and record.parameters.trainable > 0
    return (record.method, "") if trains and record.method != "plurality" else None


def designs() -> dict[tuple[str, str], Design]:
    """What makes the difference of every two trained methods vary: five seeds on the same 400 rows."""
    groups = Groups.read([RECORDS], label)
    found = {
        (one[0], other[0]): groups.design(one, other) for one, other in combinations(sorted(groups.runs), 2)
    }
    return {names: design for names, design in found.items() if design is not None}


def typical(found: dict[tuple[str, str], Design]) -> Design:
    """The median of each source of variation over all pairs."""
    first = next(iter(found.values()))

    def median(name: str) -> float:
        return float(np.median([getattr(design, name) for design in found.values()]))

    return replace(first, between_runs=median("between_runs"), shared=median("shared"), own=median("own"))


def needed(design: Design, difference: float, rows: int) -> str:
    """The seeds that show a difference with power .8 on so many rows."""
    seeds = replace(design, difference=difference).with_size(rows=rows, runs=2).runs_needed()
    return "no number" if seeds is None else str(seeds)


def table(found: dict[tuple[str, str], Design]) -> str:
    """Seeds needed for each difference and number of rows, then the power of common designs."""
    named = {"typical pair of methods": typical(found)}
    for one, other in EXAMPLES:
        design = found.get((one, other)) or found[other, one]
        named[f"`{one}` and `{other}`"] = design
    heads = [f"{difference:.2f}, {rows:,} rows" for difference in DIFFERENCES for rows in TEST_ROWS]
    lines = [f"| seeds needed for a difference of | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for words, design in named.items():
        cells = [needed(design, difference, rows) for difference in DIFFERENCES for rows in TEST_ROWS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "| power of the typical pair | " + " | ".join(f"{one:.2f}" for one in DIFFERENCES) + " |"]
    lines.append("|---|" + "---:|" * len(DIFFERENCES))
    for seeds in SEEDS:
        for rows in TEST_ROWS[::2]:
            sized = typical(found).with_size(rows=rows, runs=seeds)
            powers = [f"{replace(sized, difference=one).power:.2f}" for one in DIFFERENCES]
            lines.append(f"| {seeds} seeds, {rows:,} rows | {' | '.join(powers)} |")
    deviation = float(np.sqrt(typical(found).between_runs + typical(found).own))
    lines += [
        "",
        f"Over {len(found)} pairs of trained methods at 50 labels. Needed: for power .8 of the report's "
        f"paired test at 5 %. In the typical pair, the difference of one seed deviates by {deviation:.3f} "
        "macro-F1 from that of another. No number: no number of seeds is enough, as the rows alone leave too "
        "much doubt.",
    ]
    return "\n".join(lines) + "\n"


def draw(found: dict[tuple[str, str], Design], path: Path) -> None:
    """Power against seeds for each difference; the same records give the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "softcue", "svg.fonttype": "none", "font.size": 12})
    mpl.rcParams["font.family"] = "sans-serif"
    figure, axes = plt.subplots(figsize=(6.0, 3.4))
    for difference, colour in zip(DIFFERENCES, COLOURS, strict=True):
        design = replace(typical(found), difference=difference)
        for rows, style in ((TEST_ROWS[0], "-"), (TEST_ROWS[-1], "--")):
            power = [design.with_size(rows=rows, runs=seeds).power for seeds in CURVE]
            axes.plot(CURVE, power, style, color=colour, label=f"{difference:.2f}, {rows:,} rows")
    axes.axhline(0.8, color="#999999", linewidth=0.8)
    axes.set(xlabel="seeds", ylabel="power", ylim=(0, 1.02))
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    pairs = designs()
    write_atomic(TABLE, table(pairs))
    draw(pairs, PICTURE)
