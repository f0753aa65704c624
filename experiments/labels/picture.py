"""Draw labels.svg: macro-F1 against the number of labels, mean and 95 % interval, from the records."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

from experiments.labels.table import HERE, SIZES, TITLES, read
from experiments.matrix import Groups

mpl.use("svg")
from matplotlib import pyplot as plt

PICTURE = HERE / "labels.svg"
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")


def draw(groups: Groups, path: Path) -> None:
    """Write the picture; the same records give the same bytes."""
    mpl.rcParams.update({"svg.hashsalt": "softcue", "svg.fonttype": "none", "font.size": 12})
    mpl.rcParams["font.family"] = "sans-serif"
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    for title, colour in zip(TITLES.values(), COLOURS, strict=True):
        scores = {size: groups.score((title, size)) for size in SIZES}
        known = {int(size): score for size, score in scores.items() if score is not None}
        if not known:
            continue
        axes.plot(list(known), [score.mean for score in known.values()], "o-", color=colour, label=title)
        ends = [(at, score.interval) for at, score in known.items() if score.interval is not None]
        lows, highs = [one.low for _, one in ends], [one.high for _, one in ends]
        axes.fill_between([at for at, _ in ends], lows, highs, color=colour, alpha=0.1, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks([int(size) for size in SIZES], SIZES)
    axes.minorticks_off()
    axes.set(xlabel="labels", ylabel="macro-F1 on 400 test tweets")
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(read(), PICTURE)
