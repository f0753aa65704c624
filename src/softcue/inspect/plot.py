"""A reading as one picture, with matplotlib.

L layers, P virtual tokens.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MultipleLocator, NullLocator
from torch import Tensor

from softcue.inspect.measures import Drift
from softcue.inspect.reading import Embeddings, InLayers, Prefix, Reading

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "softcue",
}
DARK, LIGHT, GREY = "#3d6fa5", "#e07b39", "#d9d9d9"
TOKEN = "virtual token"
LEAST_SHARE = 1e-3
"""Attention below 0.1 % has a single colour."""


def draw(reading: Reading, *, form: str) -> bytes:
    """Draw the picture as the content of a "png" or "svg" file."""
    with mpl.rc_context(STYLE):
        if isinstance(reading.own, Embeddings):
            figure = _of_embeddings(reading, reading.own)
        else:
            figure = _of_prefix(reading, reading.own)
        figure.suptitle(reading.title, fontsize=13, x=0.01, ha="left")
        content = io.BytesIO()
        # Without a date, the same reading gives the same file.
        figure.savefig(content, format=form, dpi=160, metadata={"Date": None} if form == "svg" else {})
    return content.getvalue()


def _of_embeddings(reading: Reading, own: Embeddings) -> Figure:
    figure = Figure(figsize=(11, 8.5), layout=_spaced())
    (similarity, attention), (norm, drift) = figure.subplots(2, 2)
    _similarity(similarity, reading, "Cosine with each other")
    _attention(attention, reading)
    _norms(norm, own)
    _drift(drift, own.drift_P)
    for axes in (similarity, attention, norm, drift):
        _number_tokens(axes, reading)
    return figure


def _of_prefix(reading: Reading, own: Prefix) -> Figure:
    figure = Figure(figsize=(15, 8.5), layout=_spaced())
    (similarity, attention, drift), (keys, values, whole) = figure.subplots(2, 3)
    _similarity(similarity, reading, "Cosine with each other, keys of all layers")
    _attention(attention, reading)
    _drifts(drift, own)
    _norm_ratios(keys, own.keys, "Norm of keys")
    _norm_ratios(values, own.values, "Norm of values")
    _attention_to_all(whole, reading)
    for axes in (similarity, attention, drift, keys, values):
        _number_tokens(axes, reading)
    return figure


def _spaced() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)


def _similarity(axes: Axes, reading: Reading, title: str) -> None:
    axes.set(title=title, ylabel=TOKEN)
    image = axes.imshow(reading.similarity_PP.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    _figure(axes).colorbar(image, ax=axes, label="cosine")
    _locate(axes, len(reading.similarity_PP), which="y")


def _attention(axes: Axes, reading: Reading) -> None:
    share_LP = reading.attention_LP.numpy()
    grey = " (grey: no text follows)" if np.isnan(share_LP).any() else ""
    axes.set(title=f"Attention from the text of {reading.num_rows} training rows{grey}", ylabel="layer")
    if np.isnan(share_LP).all():
        words = "No text follows the virtual tokens."
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)
        axes.set(xlim=(-0.5, share_LP.shape[1] - 0.5), ylim=(len(share_LP) - 0.5, -0.5))
    else:
        most = max(float(np.nanmax(share_LP)), 10 * LEAST_SHARE)
        scale = LogNorm(LEAST_SHARE, most, clip=True)
        image = axes.imshow(share_LP, cmap="magma", norm=scale, aspect="auto", interpolation="nearest")
        axes.set_facecolor(GREY)
        bar = _figure(axes).colorbar(image, ax=axes, label="share of a text token's attention")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    _locate(axes, len(share_LP), which="y")


def _norms(axes: Axes, own: Embeddings) -> None:
    low, middle, high = own.vocabulary_Q.tolist()
    axes.axhspan(low, high, color=GREY, alpha=0.6, label="vocabulary, 5–95 %")
    axes.axhline(middle, color="grey", linewidth=1, label="its median")
    axes.plot(own.norm_P.numpy(), "o", color=DARK, label="virtual tokens")
    axes.set(title="Norms, with the vocabulary's", ylabel="L2 norm", ylim=(0, None))
    _legend(axes)


def _drift(axes: Axes, drift: Drift | None) -> None:
    axes.set(title="Drift from the start", ylabel="L2 distance")
    if drift is None:
        _note_no_start(axes)
        return
    scale, colours = Normalize(0, 1), mpl.colormaps["viridis"]
    axes.bar(range(len(drift.distance)), drift.distance.numpy(), color=colours(scale(drift.cosine.numpy())))
    shown = mpl.cm.ScalarMappable(norm=scale, cmap=colours)
    _figure(axes).colorbar(shown, ax=axes, label="cosine with the start")


def _drifts(axes: Axes, own: Prefix) -> None:
    axes.set(title="Drift from the start, all layers as one vector", ylabel="L2 distance")
    if own.keys.drift_P is None or own.values.drift_P is None:
        _note_no_start(axes)
        return
    position_P = np.arange(len(own.keys.drift_P.distance))
    axes.bar(position_P - 0.2, own.keys.drift_P.distance.numpy(), width=0.4, color=DARK, label="keys")
    axes.bar(position_P + 0.2, own.values.drift_P.distance.numpy(), width=0.4, color=LIGHT, label="values")
    _legend(axes)


def _norm_ratios(axes: Axes, half: InLayers, title: str) -> None:
    ratio_LP: Tensor = half.norm_LP / half.text_LQ[:, 1:2]
    most = max(2.0, ratio_LP.max().item(), 1 / ratio_LP.min().item())
    scale = LogNorm(1 / most, most)
    image = axes.imshow(ratio_LP.numpy(), cmap="PuOr_r", norm=scale, aspect="auto", interpolation="nearest")
    bar = _figure(axes).colorbar(image, ax=axes, label="multiple of the text's median in the layer")
    ends = int(np.log2(most))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.set_ticks([2.0**power for power in range(-ends, ends + 1)])
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"× {ratio:g}"))
    axes.set(title=title, ylabel="layer")
    _locate(axes, len(ratio_LP), which="y")


def _attention_to_all(axes: Axes, reading: Reading) -> None:
    percent_L = 100 * reading.attention_LP.sum(dim=1)
    axes.bar(range(len(percent_L)), percent_L.numpy(), color=DARK)
    axes.set(title="Attention to the whole prefix", xlabel="layer", ylabel="% of a text token's attention")
    axes.set(ylim=(0, 100), xlim=(-0.7, len(percent_L) - 0.3))
    _locate(axes, len(percent_L), which="x")


def _number_tokens(axes: Axes, reading: Reading) -> None:
    count = len(reading.similarity_PP)
    axes.set(xlabel=TOKEN, xlim=(-0.5, count - 0.5))
    _locate(axes, count, which="x")


def _locate(axes: Axes, count: int, *, which: str) -> None:
    """Number every tick, or every second, fifth, tenth … if they would not fit."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if count <= 16 * step)
    (axes.xaxis if which == "x" else axes.yaxis).set_major_locator(MultipleLocator(step))


def _legend(axes: Axes) -> None:
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    axes.legend(loc="upper left", ncols=3, frameon=False, fontsize=8)


def _note_no_start(axes: Axes) -> None:
    words = "No start to measure drift from."
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure
