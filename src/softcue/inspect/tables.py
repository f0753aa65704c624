"""A reading as tables for people: by virtual token, and a prefix by layer too."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from softcue.inspect.measures import Drift, similar_others
from softcue.inspect.reading import Embeddings, Neighbour, Prefix, Reading

NOTHING = "–"

Cell = str | tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells under their headings, and a sentence that says how to read them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str


def tables(reading: Reading) -> tuple[Table, ...]:
    """What people are shown."""
    if isinstance(reading.own, Embeddings):
        return (_of_embeddings(reading, reading.own),)
    return _of_positions(reading, reading.own), _of_layers(reading, reading.own)


def _of_embeddings(reading: Reading, own: Embeddings) -> Table:
    low, middle, high = own.vocabulary_Q.tolist()
    return Table(
        title=reading.title,
        header=("token", "nearest words", "norm", "percentile", "drift", "most similar", "attention"),
        rows=tuple(
            zip(
                _numbers(reading),
                own.nearest,
                [_digits(norm) for norm in own.norm_P.tolist()],
                _each(own.percentile_P, "{:.0f}"),
                _moved(own.drift_P, len(own.nearest)),
                _similar(reading.similarity_PP),
                _attention(reading.attention_LP),
                strict=True,
            )
        ),
        caption=(
            "Nearest words, most similar token: cosine. Norm: beside the vocabulary's, whose median is "
            f"{_digits(middle)} (5 % to 95 %: {_digits(low)} to {_digits(high)}); percentile among them. "
            f"Drift: L2 distance to the start (cosine with it). {_attention_words(reading)}"
        ),
    )


def _of_positions(reading: Reading, own: Prefix) -> Table:
    count = len(reading.similarity_PP)
    ratios = [(half.norm_LP / half.text_LQ[:, 1:2]).mean(dim=0) for half in (own.keys, own.values)]
    return Table(
        title=reading.title,
        header=(
            "position",
            "key norm",
            "value norm",
            "key drift",
            "value drift",
            "most similar",
            "attention",
        ),
        rows=tuple(
            zip(
                _numbers(reading),
                *(_each(ratio_P, "× {:.2f}") for ratio_P in ratios),
                _moved(own.keys.drift_P, count),
                _moved(own.values.drift_P, count),
                _similar(reading.similarity_PP),
                _attention(reading.attention_LP),
                strict=True,
            )
        ),
        caption=(
            f"Norm: as a multiple of the median over the text tokens of {reading.num_rows} training rows, "
            "the mean over layers. Drift: L2 distance to the start (cosine with it), over all layers. "
            f"Most similar position: cosine of the keys. {_attention_words(reading)}"
        ),
    )


def _of_layers(reading: Reading, own: Prefix) -> Table:
    top_L = reading.attention_LP.max(dim=1)
    return Table(
        title=f"{reading.title} · by layer",
        header=(
            "layer",
            "key norm",
            "text key norm",
            "value norm",
            "text value norm",
            "attention",
            "most to",
        ),
        rows=tuple(
            zip(
                map(str, range(len(reading.attention_LP))),
                *(
                    column
                    for half in (own.keys, own.values)
                    for column in (_ranges(half.norm_LP), _spreads(half.text_LQ))
                ),
                _each(100 * reading.attention_LP.sum(dim=1), "{:.1f} %"),
                (
                    f"{position} ({100 * share:.1f} %)"
                    for position, share in zip(top_L.indices.tolist(), top_L.values.tolist(), strict=True)
                ),
                strict=True,
            )
        ),
        caption=(
            "Norm: median over the prefix's positions (least to most), beside that over text tokens "
            "(5 % to 95 %). Attention: of a text token to the whole prefix, and to its highest position."
        ),
    )


def _numbers(reading: Reading) -> list[str]:
    return [str(token) for token in range(len(reading.similarity_PP))]


def _each(values: Tensor, form: str) -> list[str]:
    return [form.format(value) for value in values.tolist()]


def _moved(drift: Drift | None, count: int) -> list[str]:
    if drift is None:
        return [NOTHING] * count
    both = zip(drift.distance.tolist(), drift.cosine.tolist(), strict=True)
    return [f"{_digits(distance)} ({cosine:.2f})" for distance, cosine in both]


def _similar(similarity_PP: Tensor) -> list[str]:
    return [
        NOTHING if other is None else f"{other} ({cosine:.2f})"
        for other, cosine in similar_others(similarity_PP)
    ]


def _attention(attention_LP: Tensor) -> list[str]:
    """`1.2 % (layer 7: 5.3 %)`: the mean over layers, and the layer that gives most."""
    most_P = attention_LP.max(dim=0)
    of_each = zip(attention_LP.mean(dim=0), most_P.indices.tolist(), most_P.values.tolist(), strict=True)
    return [
        NOTHING if mean.isnan() else f"{100 * mean.item():.2f} % (layer {layer}: {100 * most:.1f} %)"
        for mean, layer, most in of_each
    ]


def _attention_words(reading: Reading) -> str:
    words = (
        "Attention: the share of its own that a text token behind gives, the mean over heads, layers and the "
        f"text of {reading.num_rows} training rows (the layer that gives most)."
    )
    if reading.attention_LP.isnan().any():
        words += f" {NOTHING}: no text stands behind."
    return words


def _ranges(norm_LP: Tensor) -> list[str]:
    ends = zip(norm_LP.median(dim=1).values, norm_LP.amin(dim=1), norm_LP.amax(dim=1), strict=True)
    return [_range(middle.item(), low.item(), high.item()) for middle, low, high in ends]


def _spreads(text_LQ: Tensor) -> list[str]:
    return [_range(middle, low, high) for low, middle, high in text_LQ.tolist()]


def _range(middle: float, low: float, high: float) -> str:
    return f"{_digits(middle)} ({_digits(low)}–{_digits(high)})"


def _digits(value: float) -> str:
    """Three digits that count: `0.804`, `4.60`, `130`."""
    return f"{value:#.3g}".rstrip(".")
