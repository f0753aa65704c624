"""Draw methods.svg: macro-F1 of four methods over five seeds, from the records under `runs`.

Each dot is a run; the bar is the mean with its 95 % t-interval over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from scipy import stats

from softcue.runs.store import list_records

mpl.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
PICTURE = HERE / "methods.svg"
TITLES = {
    "prompt_tuning": "prompt tuning",
    "p_tuning": "P-tuning",
    "prefix_tuning": "prefix tuning",
    "tfidf": "TF-IDF",
}
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"prompt_tuning": "#0072B2", "p_tuning": "#D55E00", "prefix_tuning": "#009E73", "tfidf": "#555555"}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A method's scores, their mean, and the ends of its 95 % interval."""

    method: str
    values: tuple[float, ...]
    mean: float
    low: float
    high: float


def intervals(root: Path) -> list[Interval]:
    """Macro-F1 on the test rows of every method's complete runs, best mean first."""
    values: dict[str, list[float]] = {}
    for record in list_records(root).records:
        value = record.metrics["test"]["macro_f1"]
        assert value is not None
        values.setdefault(record.method, []).append(value)
    found = []
    for method, scores in values.items():
        mean = fmean(scores)
        low, high = stats.t.interval(0.95, len(scores) - 1, loc=mean, scale=stats.sem(scores))
        found.append(
            Interval(method=method, values=tuple(sorted(scores)), mean=mean, low=float(low), high=float(high))
        )
    return sorted(found, key=lambda interval: -interval.mean)


def draw(found: list[Interval], path: Path) -> None:
    """Write the picture; the same records give the same bytes."""
    # Text stays text: it scales with the page and can be searched.
    mpl.rcParams.update({"svg.hashsalt": "softcue", "svg.fonttype": "none", "font.size": 12})
    mpl.rcParams["font.family"] = "sans-serif"
    figure, axes = plt.subplots(figsize=(5.4, 2.8))
    for y, interval in enumerate(reversed(found)):
        colour = COLOURS[interval.method]
        axes.plot(
            [interval.low, interval.high], [y, y], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt"
        )
        axes.plot(interval.values, [y] * len(interval.values), "o", color=colour, markersize=5)
        axes.plot([interval.mean] * 2, [y - 0.28, y + 0.28], color=colour, linewidth=2.5)
        axes.text(interval.mean, y + 0.36, f"{interval.mean:.3f}", color=colour, ha="center", fontsize=11)
    axes.set_yticks(range(len(found)), [TITLES[interval.method] for interval in reversed(found)])
    axes.set(ylim=(-0.5, len(found) - 0.2), xlabel="macro-F1 on 400 test tweets")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None}, facecolor="white")
    plt.close(figure)


if __name__ == "__main__":
    draw(intervals(HERE / "runs"), PICTURE)
