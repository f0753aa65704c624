"""Keys and values in front of a row, through the model's own cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from softcue.backbone.attention import KeysAndValues
from softcue.backbone.base import KeyValueSizes
from softcue.backbone.probes import Embed, describe_error, equal, is_quantised, log_probs, probe_ids, run
from softcue.backbone.row_limits import attention_window

NUM_AHEAD, NUM_PADS = 3, 4
KEYS_AND_VALUES_ALONE = (DynamicLayer, DynamicSlidingWindowLayer)
"""Cache layers with nothing else. Others also keep states, or the keys of an index that chooses what long
rows see: a prefix has neither, which the few tokens of a probe need not show."""


@dataclass(frozen=True, kw_only=True)
class CacheProbe:
    """The keys and values that a model keeps, or why it takes none in front of a row."""

    sizes: KeyValueSizes = field(default_factory=KeyValueSizes)
    pads_are_exact: bool = False
    """Whether padding between a prefix and its row changes nothing."""
    refusal: str | None = None


def fill_cache(model: PreTrainedModel, layers: Iterable[KeysAndValues]) -> DynamicCache:
    """A cache of the model's own kind that holds each layer's keys and values [B, H, T, K]."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    return cache


def keys_and_values(cache: object) -> list[KeysAndValues]:
    """Each layer's keys and values [1, H, T, K]."""
    assert isinstance(cache, DynamicCache)
    layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    return [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]


def probe_cache(model: PreTrainedModel, embed: Embed, *, positions: bool) -> CacheProbe:
    """What keys and values the model keeps, and whether it takes them in front of a row."""
    try:
        return _probe(model, embed(probe_ids(model)), positions=positions)
    except Exception as error:  # noqa: BLE001 - families raise anything
        return CacheProbe(refusal=f"its cache does not take them ({describe_error(error)})")


def _probe(model: PreTrainedModel, vectors_1TD: Tensor, *, positions: bool) -> CacheProbe:
    output = run(model, inputs_embeds=vectors_1TD[:, :NUM_AHEAD], use_cache=True)
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        return CacheProbe(refusal="it keeps no keys and values")
    if type(cache) is not DynamicCache:
        return CacheProbe(refusal=f"its cache is {type(cache).__name__}")
    kinds = {type(layer) for layer in cache.layers}
    if others := sorted(kind.__name__ for kind in kinds.difference(KEYS_AND_VALUES_ALONE)):
        return CacheProbe(refusal=f"its cache does not hold keys and values alone ({', '.join(others)})")
    if not all(isinstance(layer, CacheLayerMixin) and layer.is_initialized for layer in cache.layers):
        return CacheProbe(refusal="some of its layers keep no keys and values")
    layers = keys_and_values(cache)
    shapes = {(keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in layers}
    if len(shapes) != 1:
        return CacheProbe(refusal="its layers keep keys of different shapes")
    ((num_heads, key_size, value_size),) = shapes
    whole = log_probs(model, inputs_embeds=vectors_1TD)[:, NUM_AHEAD:]
    after = partial(_after_cache, model, layers, vectors_1TD[:, NUM_AHEAD:], positions=positions)
    if not equal(model, whole, after(num_pads=0), exact=True):
        if is_quantised(model) and model.dtype != torch.float32:
            return CacheProbe(
                refusal=f"with quantised weights, {model.dtype} rounds too much to show that its cache takes "
                "them (backbone.dtype=float32 rounds less)"
            )
        return CacheProbe(
            refusal="keys and values put into its cache give other results than their tokens do"
        )
    return CacheProbe(
        sizes=KeyValueSizes(
            num_layers=len(layers), num_heads=num_heads, key_size=key_size, value_size=value_size
        ),
        # In a sliding window, padding between a prefix and its row would count as tokens.
        pads_are_exact=attention_window(model.config) is None
        and equal(model, whole, after(num_pads=NUM_PADS), exact=True),
    )


def _after_cache(
    model: PreTrainedModel,
    layers: Sequence[KeysAndValues],
    vectors_1TD: Tensor,
    *,
    num_pads: int,
    positions: bool,
) -> Tensor:
    """Log-probabilities of tokens after given keys and values, with padding between the two."""
    ahead, count = layers[0][0].shape[2], vectors_1TD.shape[1]
    padded = torch.cat([vectors_1TD[:, :1].expand(-1, num_pads, -1), vectors_1TD], dim=1)
    mask = torch.tensor([[1] * ahead + [0] * num_pads + [1] * count], device=model.device)
    named = {"position_ids": (mask.cumsum(1) - 1)[:, ahead:]} if positions else {}
    cache = fill_cache(model, layers)
    result = log_probs(
        model, inputs_embeds=padded, past_key_values=cache, use_cache=True, attention_mask=mask, **named
    )
    return result[:, num_pads:]
