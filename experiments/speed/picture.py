"""Draw plan.svg: the tokens that a padded batch computes, and those that the stream computes."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

COLOURS = {
    "virtual token": "#e07b39",
    "shared word": "#3d6fa5",
    "text": "#9fc3e0",
    "label": "#5a9e6f",
    "padding": "#e4e4e4",
}
VIRTUAL, SHARED, LABEL = 5, 3, 2
TEXTS = (9, 5, 12, 7)
Cells = list[str]


def padded(text: int) -> Cells:
    """A row of a padded batch: virtual tokens, pads and text, as long as the longest row."""
    row = ["shared word"] * SHARED + ["text"] * text + ["label"] * LABEL
    longest = SHARED + max(TEXTS) + LABEL
    return ["virtual token"] * VIRTUAL + ["padding"] * (longest - len(row)) + row


def stream() -> Cells:
    """The same rows as one stream: the shared prefix once, no pads, no last label token."""
    shared = ["virtual token"] * VIRTUAL + ["shared word"] * SHARED
    return shared + [cell for text in TEXTS for cell in ["text"] * text + ["label"] * (LABEL - 1)]


def draw(axes: Axes, rows: list[Cells], title: str) -> None:
    """Draw rows of cells, the first on top."""
    for y, row in enumerate(reversed(rows)):
        for x, cell in enumerate(row):
            axes.add_patch(Rectangle((x, y), 0.9, 0.8, color=COLOURS[cell], linewidth=0))
    axes.set(xlim=(0, max(len(row) for row in rows)), ylim=(-0.2, len(rows)), aspect="equal")
    axes.set_title(title, fontsize=9, loc="left")
    axes.axis("off")


def main() -> None:
    """Write plan.svg beside this file."""
    mpl.rcParams["svg.hashsalt"] = "softcue"
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 2.6), height_ratios=[4, 1.4])
    rows = [padded(text) for text in TEXTS]
    draw(above, rows, f"padded batch: {sum(map(len, rows))} tokens, logits at every one")
    draw(below, [stream()], f"stream: {len(stream())} tokens, logits where a label token is predicted")
    figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in COLOURS.items()],
        loc="lower center",
        ncols=len(COLOURS),
        fontsize=8,
        frameon=False,
    )
    figure.savefig(Path(__file__).with_name("plan.svg"), bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
