"""A reading as records for programs, numbers unrounded."""

from __future__ import annotations

from torch import Tensor

from softcue.inspect.measures import Drift, similar_others
from softcue.inspect.reading import Embeddings, Prefix, Reading


def records(reading: Reading) -> list[dict[str, object]]:
    """One for each virtual token; for each layer and position of a prefix."""
    if isinstance(reading.own, Embeddings):
        return _token_records(reading, reading.own)
    return _layer_records(reading, reading.own)


def _token_records(reading: Reading, own: Embeddings) -> list[dict[str, object]]:
    similar = similar_others(reading.similarity_PP)
    return [
        {
            "token": token,
            **{
                f"{name}_{place}": value
                for place, neighbour in enumerate(own.nearest[token], start=1)
                for name, value in (("nearest", neighbour.text), ("cosine", neighbour.cosine))
            },
            "norm": own.norm_P[token].item(),
            "norm_percentile": own.percentile_P[token].item(),
            **_drift_record("drift", own.drift_P, token),
            "most_similar": similar[token][0],
            "most_similar_cosine": similar[token][1],
            "attention": _number(reading.attention_LP[:, token].mean()),
        }
        for token in range(len(own.nearest))
    ]


def _layer_records(reading: Reading, own: Prefix) -> list[dict[str, object]]:
    num_layers, num_positions = reading.attention_LP.shape
    return [
        {
            "layer": layer,
            "position": position,
            "key_norm": own.keys.norm_LP[layer, position].item(),
            "text_key_norm": own.keys.text_LQ[layer, 1].item(),
            "value_norm": own.values.norm_LP[layer, position].item(),
            "text_value_norm": own.values.text_LQ[layer, 1].item(),
            **_drift_record("key_drift", own.keys.drift_LP, layer, position),
            **_drift_record("value_drift", own.values.drift_LP, layer, position),
            "attention": reading.attention_LP[layer, position].item(),
        }
        for layer in range(num_layers)
        for position in range(num_positions)
    ]


def _drift_record(name: str, drift: Drift | None, *place: int) -> dict[str, object]:
    return {
        name: None if drift is None else drift.distance[place].item(),
        f"{name}_cosine": None if drift is None else drift.cosine[place].item(),
    }


def _number(value: Tensor) -> float | None:
    return None if value.isnan() else value.item()
