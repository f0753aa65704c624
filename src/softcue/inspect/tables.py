"""A reading as tables: by virtual token or position, and a prefix also by layer.

L layers, P virtual tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from softcue.inspect.measures import Drift, similar_others
from softcue.inspect.reading import Embeddings, InLayers, Neighbour, Prefix, Reading
from softcue.tables.table import MISSING, Column, Table, number

Cell = tuple[int, int]
"""A layer and a position of a prefix."""


def tables(reading: Reading) -> list[Table[int]]:
    """The tables for people."""
    if isinstance(reading.own, Embeddings):
        return [_of_embeddings(reading, reading.own)]
    return [_of_positions(reading, reading.own), _of_layers(reading, reading.own)]


def full_table(reading: Reading) -> Table[Any]:
    """The table for programs: a row for each virtual token, or for each layer and position of a prefix."""
    if isinstance(reading.own, Embeddings):
        return _of_embeddings(reading, reading.own)
    return _of_cells(reading, reading.own)


def _of_embeddings(reading: Reading, own: Embeddings) -> Table[int]:
    low, middle, high = map(_digits, own.vocabulary_Q.tolist())
    return Table(
        title=reading.title,
        columns=(
            number("token", lambda token: token),
            Column("nearest words", own.nearest.__getitem__, _words, name="nearest", fields=_word_fields),
            number("norm", _each(own.norm_P), _digits),
            number("percentile", _each(own.percentile_P), "{:.0f}".format, name="norm_percentile"),
            _drift("drift", own.drift_P),
            _most_similar(reading.similarity_PP),
            _attention(reading.attention_LP),
        ),
        rows=range(len(own.nearest)),
        caption=(
            "Nearest words, most similar token: cosine. Norm: beside the vocabulary's, whose median is "
            f"{middle} (5 % to 95 %: {low} to {high}); percentile among them. "
            f"Drift: L2 distance to the start (cosine with it). {_attention_caption(reading)}"
        ),
    )


def _of_positions(reading: Reading, own: Prefix) -> Table[int]:
    key_ratio_P, value_ratio_P = (
        (half.norm_LP / half.text_LQ[:, 1:2]).mean(dim=0) for half in (own.keys, own.values)
    )
    return Table(
        title=reading.title,
        columns=(
            number("position", lambda position: position),
            number("key norm", _each(key_ratio_P), "× {:.2f}".format),
            number("value norm", _each(value_ratio_P), "× {:.2f}".format),
            _drift("key drift", own.keys.drift_P),
            _drift("value drift", own.values.drift_P),
            _most_similar(reading.similarity_PP),
            _attention(reading.attention_LP),
        ),
        rows=range(len(reading.similarity_PP)),
        caption=(
            f"Norm: as a multiple of the median over the text tokens of {reading.num_rows} training rows, "
            "the mean over layers. Drift: L2 distance to the start (cosine with it), over all layers. "
            f"Most similar position: cosine of the keys. {_attention_caption(reading)}"
        ),
    )


def _of_layers(reading: Reading, own: Prefix) -> Table[int]:
    highest_L = reading.attention_LP.max(dim=1)
    highest = list(zip(highest_L.indices.tolist(), highest_L.values.tolist(), strict=True))
    return Table(
        title=f"{reading.title} · by layer",
        columns=(
            number("layer", lambda layer: layer),
            *(
                column
                for name, half in (("key", own.keys), ("value", own.values))
                for column in (
                    number(f"{name} norm", _prefix_norms(half), _range),
                    number(f"text {name} norm", half.text_LQ.tolist().__getitem__, _range),
                )
            ),
            number("attention", _each(100 * reading.attention_LP.sum(dim=1)), "{:.1f} %".format),
            number("most to", highest.__getitem__, lambda of: f"{of[0]} ({100 * of[1]:.1f} %)"),
        ),
        rows=range(len(reading.attention_LP)),
        caption=(
            "Norm: median over the prefix's positions (least to most), beside that over text tokens "
            "(5 % to 95 %). Attention: of a text token to the whole prefix, and to its highest position."
        ),
    )


def _of_cells(reading: Reading, own: Prefix) -> Table[Cell]:
    num_layers, num_positions = reading.attention_LP.shape
    halves = (("key", own.keys), ("value", own.values))
    return Table(
        columns=(
            number("layer", lambda cell: cell[0]),
            number("position", lambda cell: cell[1]),
            *(
                column
                for name, half in halves
                for column in (
                    number(f"{name}_norm", _each(half.norm_LP)),
                    number(f"text_{name}_norm", _median(half.text_LQ)),
                )
            ),
            *(_drift(f"{name}_drift", half.drift_LP) for name, half in halves),
            number("attention", _each(reading.attention_LP)),
        ),
        rows=[(layer, position) for layer in range(num_layers) for position in range(num_positions)],
    )


def _each(values: Tensor) -> Callable[[Any], float]:
    """Look a row up in a tensor, by its index or by its layer and position."""
    return lambda row: values[row].item()


def _median(text_LQ: Tensor) -> Callable[[Cell], float]:
    return lambda cell: text_LQ[cell[0], 1].item()


def _prefix_norms(half: InLayers) -> Callable[[int], tuple[float, float, float]]:
    """The least, the median and the greatest norm of a layer."""
    norm_LP = half.norm_LP
    return lambda layer: (
        norm_LP[layer].min().item(),
        norm_LP[layer].median().item(),
        norm_LP[layer].max().item(),
    )


def _drift(heading: str, drift: Drift | None) -> Column[Any]:
    return Column(
        heading,
        lambda row: (drift.distance[row].item(), drift.cosine[row].item()) if drift else None,
        lambda moved: f"{_digits(moved[0])} ({moved[1]:.2f})",
        align="right",
        fields=_named("", "_cosine"),
    )


def _most_similar(similarity_PP: Tensor) -> Column[int]:
    others = similar_others(similarity_PP)
    return Column(
        "most similar",
        lambda token: others[token] if others[token][0] is not None else None,
        lambda other: f"{other[0]} ({other[1]:.2f})",
        align="right",
        name="most_similar",
        fields=_named("", "_cosine"),
    )


def _attention(attention_LP: Tensor) -> Column[int]:
    """`1.2 % (layer 7: 5.3 %)`: the mean over layers, and the layer that gives most."""
    mean_P, most_P = attention_LP.mean(dim=0), attention_LP.max(dim=0)

    def value(token: int) -> tuple[float, int, float] | None:
        if mean_P[token].isnan():
            return None
        return mean_P[token].item(), int(most_P.indices[token]), most_P.values[token].item()

    return Column(
        "attention",
        value,
        lambda of: f"{100 * of[0]:.2f} % (layer {of[1]}: {100 * of[2]:.1f} %)",
        align="right",
        fields=_named("", "_top_layer", "_in_top_layer"),
    )


def _attention_caption(reading: Reading) -> str:
    words = (
        "Attention: the share of its attention that a later text token gives, the mean over heads, layers "
        f"and the text of {reading.num_rows} training rows (the layer that gives most)."
    )
    if reading.attention_LP.isnan().any():
        words += f" {MISSING}: no text follows."
    return words


def _words(near: Sequence[Neighbour]) -> tuple[str, ...]:
    return tuple(f"{word.text!r} {word.cosine:.2f}" for word in near)


def _word_fields(near: Sequence[Neighbour]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for place, word in enumerate(near, start=1):
        fields |= {f"_{place}": word.text, f"_{place}_cosine": word.cosine}
    return fields


def _named(*suffixes: str) -> Callable[[Sequence[Any] | None], dict[str, Any]]:
    """CSV fields of a tuple, or of a missing one."""
    return lambda values: dict(zip(suffixes, values or [None] * len(suffixes), strict=True))


def _range(ends: tuple[float, float, float]) -> str:
    low, middle, high = map(_digits, ends)
    return f"{middle} ({low}–{high})"


def _digits(value: float) -> str:
    """Three significant digits: `0.804`, `4.60`, `130`."""
    return f"{value:#.3g}".rstrip(".")
