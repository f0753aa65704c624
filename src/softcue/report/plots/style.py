"""How every plot looks: widths, colours, markers, and figures as files.

matplotlib is imported by what draws, not by what declares: a report without plots starts without it.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from softcue.report.model import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE, QUARTER = 3.4, 6.8, 2.7
"""Widths in inches: a column of a paper or a phone, a page, and one of four beside each other on a screen."""

INK, MUTED, RULE, PAPER = "#1b1b1a", "#6b6b66", "#dedcd6", "#fefefd"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b27d00", "#56b4e9", "#5a4fb0", "#77776f")
"""Okabe and Ito's colours, yellow darkened for white paper; markers repeat what the colours tell."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    **{colour: f"--c{index}" for index, colour in enumerate(PALETTE)},
}
"""The page's variable for each colour, so that a plot follows the page from light to dark."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    # A dollar sign in a received name is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "softcue",
}


class NotDrawn(Exception):
    """The records do not hold what a plot needs; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a cell is marked in every plot of its task."""

    colour: str
    marker: str


def looks(cells: Sequence[Cell]) -> dict[str, Look]:
    """Each cell's look by its key; if there are more cells than colours, methods share one."""
    each_its_own = len(cells) <= len(PALETTE)
    names = sorted({cell.label if each_its_own else cell.method for cell in cells})
    found = {}
    for cell in cells:
        index = min(names.index(cell.label if each_its_own else cell.method), len(PALETTE) - 1)
        found[cell.key] = Look(colour=PALETTE[index], marker=MARKERS[index])
    return found


def wrapped(text: str, width: float) -> str:
    """A label on as many lines as a figure of this width in inches has room for beside its axes."""
    return "\n".join(textwrap.wrap(text, round(7 * width), break_on_hyphens=False)) or text


def styled() -> AbstractContextManager[None]:
    """While it lasts, figures are made and saved in this style."""
    import matplotlib as mpl

    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def count_text(value: float, _: object = None) -> str:
    """A count on an axis: `0.1`, `500`, `46k`, `1.8M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def legend_below(figure: Figure, axes: Axes) -> None:
    """Add a legend beneath the axes, where it hides no point, and make the figure higher by as much."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    width, height = figure.get_size_inches()
    labels = [wrapped(label, 1.8 * width) for label in labels]
    longest = max(len(line) for label in labels for line in label.split("\n"))
    columns = max(1, min(3, int(width / (0.45 + 0.062 * longest))))
    rows = -(-len(labels) // columns)
    figure.set_size_inches(width, height + rows * 0.155 * max(1 + label.count("\n") for label in labels))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handletextpad=0.5)


def names_of(cells: Iterable[Cell], width: float) -> list[str]:
    """The cells' short labels, wrapped for the figure."""
    return [wrapped(cell.label, width) for cell in cells]


def name_width(names: Sequence[str]) -> float:
    """Points from the axis to where left-aligned names begin."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(size=8)
    lines = [line for name in names for line in name.split("\n") if line.strip()]
    return 4 + max(float(TextPath((0, 0), line, prop=font).get_extents().x1) for line in lines)


def as_file(figure: Figure, *, form: str) -> bytes:
    """The figure as a "png" or "svg" file; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format=form, dpi=300, metadata={"Date": None} if form == "svg" else {})
    return content.getvalue()


def as_inline_svg(figure: Figure, *, prefix: str, label: str) -> str:
    """The figure as an SVG element of a page, in the page's own font and colours.

    `prefix` keeps its ids apart from those of the page's other figures.
    """
    content = io.BytesIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick)_\d+"', "", svg)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"(font(?:-family)?: [^;\"]*?)'[^;\"]*?(?=[;\"])", r"\1inherit", svg)
    head = f'<svg role="img" aria-label="{_attribute(label)}"'
    return re.sub(r"\n\s*", "\n", svg.replace("<svg", head, 1)).strip()


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
