"""What a causal language model turns out to do, found by running a few tokens through it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.errors import BackboneError

NUM_TOKENS = 8
EXACT, ROUNDED = 1e-4, 0.1
"""How far two runs' log-probabilities may be apart, relative to the largest: for whatever changes how rows
are run, and where quantised activations are rounded by what they run with."""
NO_GRADIENT = 1e-5
"""The largest gradient, relative to the largest of all, of what does not depend on a token."""

Embed = Callable[[Tensor], Tensor]


class ModelOutput(Protocol):
    """What transformers' causal language models return, as far as it is read here."""

    logits: Tensor
    past_key_values: object
    attentions: tuple[Tensor, ...] | None


@dataclass(frozen=True, kw_only=True)
class CacheLayout:
    """The keys and values that a model keeps of one token; zeros, and why, if it takes none from outside."""

    num_layers: int = 0
    num_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    pads_are_exact: bool = False
    """Whether pads between keys and values in front and their row change nothing."""
    refusal: str | None = None


def check_runs(model: PreTrainedModel) -> None:
    """Refuse a model that fails with a row of tokens, in its own dtype."""
    try:
        _log_probs(model, input_ids=_ids(model))
    except Exception as error:  # whatever a family raises
        raise BackboneError(
            f"{type(model).__name__} cannot run a row of tokens ({described(error)}); choose another family, "
            "or set in its config.json what it lacks."
        ) from error


def check_causal(model: PreTrainedModel) -> None:
    """Refuse a model in which a token sees what comes after it: labels would be read before predicted."""
    ids_1T = _ids(model)
    changed_1T = ids_1T.clone()
    changed_1T[:, -1] = ids_1T[:, 0]
    before, after = (_log_probs(model, input_ids=ids)[:, :-1] for ids in (ids_1T, changed_1T))
    if not _equal(before, after, limit=_limit(model)):
        raise _not_causal(model)


def _not_causal(model: PreTrainedModel) -> BackboneError:
    return BackboneError(
        f"{type(model).__name__} lets tokens see those after them, so it is no causal language model; "
        "choose another, or set what makes it a decoder (is_decoder) in its config.json."
    )


def embedding_scale(model: PreTrainedModel) -> float:
    """What the model multiplies its embedding module's output by when it is given ids.

    Raises:
        BackboneError: embeddings cannot stand for tokens in this model.
    """
    ids_1T = _ids(model)
    vectors_1TD = model.get_input_embeddings()(ids_1T)
    typed, typed_state = _run_to_first_layer(model, input_ids=ids_1T)
    given, given_state = _run_to_first_layer(model, inputs_embeds=vectors_1TD)
    if _equal(typed, given, limit=_limit(model)):
        return 1.0
    if typed_state is not None and given_state is not None:
        scale = float((typed_state * given_state).sum() / (given_state * given_state).sum())
        scaled = _log_probs(model, inputs_embeds=vectors_1TD * scale)
        if _equal(typed, scaled, limit=_limit(model)):
            return scale
    raise BackboneError(
        f"{type(model).__name__} reads token ids in more places than its embedding, so that no vectors can "
        "stand for tokens in it; choose another family."
    )


def check_gradients(model: PreTrainedModel, embed: Embed) -> None:
    """Refuse a model whose backward pass does not reach its input: no prompt could learn in it.

    Where quantised layers bring a backward pass of their own, the gradient of a log-probability is held
    against the difference that a step along it makes, and early log-probabilities must have no gradient
    at later tokens: rounding hides what those change from `check_causal`.
    """
    vectors_1TD = embed(_ids(model)).detach().requires_grad_()
    token = int(_log_probs(model, inputs_embeds=vectors_1TD)[0, -1].argmax())

    def score(at_1TD: Tensor) -> Tensor:
        output = cast(ModelOutput, model(inputs_embeds=at_1TD, use_cache=False))
        return output.logits[0, -1].float().log_softmax(-1)[token]

    value = score(vectors_1TD.clone())
    if value.requires_grad:
        (gradient_1TD,) = torch.autograd.grad(value, vectors_1TD)
        if gradient_1TD.any() and not is_quantised(model):
            return
        if _is_slope(gradient_1TD.float(), score, vectors_1TD.detach()):
            if _reads_ahead(model, vectors_1TD):
                raise _not_causal(model)
            return
    raise BackboneError(
        f"{type(model).__name__} gives its input no gradient, or a wrong one, on {model.device.type}: no "
        "prompt could learn in it. Load it in another precision or quantisation, or on another device."
    )


def _reads_ahead(model: PreTrainedModel, vectors_1TD: Tensor) -> bool:
    logits = cast(ModelOutput, model(inputs_embeds=vectors_1TD.clone(), use_cache=False)).logits
    half = NUM_TOKENS // 2
    early = logits[:, :half].float().log_softmax(-1).amax(-1).sum()
    (gradient_1TD,) = torch.autograd.grad(early, vectors_1TD)
    return bool(gradient_1TD[:, half:].abs().max() > NO_GRADIENT * gradient_1TD.abs().max())


def _is_slope(gradient_1TD: Tensor, score: Callable[[Tensor], Tensor], at_1TD: Tensor) -> bool:
    size, length = float(gradient_1TD.norm()), float(at_1TD.float().norm())
    # A short step where numbers are exact; a longer one where they are rounded.
    for share in (0.001, 0.01, 0.05) if size > 0 else ():
        step_1TD = (gradient_1TD * (share * length / size)).to(at_1TD.dtype)
        with torch.no_grad():
            change = float(score(at_1TD + step_1TD) - score(at_1TD - step_1TD))
        if 1 / 3 < change / (2 * share * length * size) < 3:
            return True
    return False


def counts_positions_from_0(model: PreTrainedModel, embed: Embed) -> bool:
    """Whether the model takes positions, and counts a row's own from 0 as we do."""
    if "position_ids" not in arguments_of(model):
        return False
    vectors_1TD = embed(_ids(model))
    ours = _log_probs(model, inputs_embeds=vectors_1TD, position_ids=_positions(model, 0, NUM_TOKENS))
    return _equal(ours, _log_probs(model, inputs_embeds=vectors_1TD))


def pads_are_exact(model: PreTrainedModel, embed: Embed, *, positions: bool) -> bool:
    """Whether a row gives the same result behind pads, and beside a longer row."""
    if _rope_types(model.config) & {"longrope", "dynamic"}:
        return False  # one long row changes the frequencies of all
    vectors_1TD, num_pads = embed(_ids(model)), 5
    padded = torch.cat([vectors_1TD[:, :num_pads], vectors_1TD], dim=1)
    mask = torch.tensor([[0] * num_pads + [1] * NUM_TOKENS], device=model.device)
    alone = _log_probs(model, inputs_embeds=vectors_1TD)
    named = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if positions else {}
    behind = _log_probs(model, inputs_embeds=padded, attention_mask=mask, **named)[:, num_pads:]
    return _equal(alone, behind)


def cache_layout(model: PreTrainedModel, embed: Embed, *, positions: bool) -> CacheLayout:
    """What keys and values the model keeps, and whether it takes them in front of a row."""
    try:
        return _cache_layout(model, embed(_ids(model)), positions=positions)
    except Exception as error:  # noqa: BLE001 - whatever a family raises
        return CacheLayout(refusal=f"its cache does not take them ({described(error)})")


def _cache_layout(model: PreTrainedModel, vectors_1TD: Tensor, *, positions: bool) -> CacheLayout:
    count = 3
    output = _forward(model, inputs_embeds=vectors_1TD[:, :count], use_cache=True)
    cache = getattr(output, "past_key_values", None)
    if cache is None:
        return CacheLayout(refusal="it keeps no keys and values")
    if type(cache) is not DynamicCache:
        return CacheLayout(refusal=f"its cache is {type(cache).__name__}")
    if not all(isinstance(layer, DynamicLayer) and layer.is_initialized for layer in cache.layers):
        return CacheLayout(refusal="some of its layers keep no keys and values")
    layers = keys_and_values(cache)
    shapes = {(keys.shape[1], keys.shape[3], values.shape[3]) for keys, values in layers}
    if len(shapes) != 1:
        return CacheLayout(refusal="its layers keep keys of different shapes")
    ((num_heads, key_size, value_size),) = shapes
    whole = _log_probs(model, inputs_embeds=vectors_1TD)[:, count:]
    behind = partial(_behind_cache, model, layers, vectors_1TD[:, count:], positions=positions)
    if not _equal(whole, behind(num_pads=0)):
        if is_quantised(model) and model.dtype != torch.float32:
            return CacheLayout(
                refusal=f"beside quantised weights {model.dtype} rounds too much to show that its cache "
                "takes them (backbone.dtype=float32 rounds less)"
            )
        return CacheLayout(refusal="keys and values put into its cache do not act as the tokens they are of")
    return CacheLayout(
        num_layers=len(layers),
        num_heads=num_heads,
        key_size=key_size,
        value_size=value_size,
        pads_are_exact=_equal(whole, behind(num_pads=4)),
    )


def _behind_cache(
    model: PreTrainedModel,
    layers: Sequence[tuple[Tensor, Tensor]],
    vectors_1TD: Tensor,
    *,
    num_pads: int,
    positions: bool,
) -> Tensor:
    """Log-probabilities of tokens behind given keys and values, maybe with pads between the two."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    for number, (keys, values) in enumerate(layers):
        cache.update(keys, values, number)
    ahead, count = layers[0][0].shape[2], vectors_1TD.shape[1]
    padded = torch.cat([vectors_1TD[:, :1].expand(-1, num_pads, -1), vectors_1TD], dim=1)
    mask = torch.tensor([[1] * ahead + [0] * num_pads + [1] * count], device=model.device)
    named = {"position_ids": (mask.cumsum(1) - 1)[:, ahead:]} if positions else {}
    log_probs = _log_probs(
        model, inputs_embeds=padded, past_key_values=cache, use_cache=True, attention_mask=mask, **named
    )
    return log_probs[:, num_pads:]


def keys_and_values(cache: object) -> list[tuple[Tensor, Tensor]]:
    """Each layer's keys and values [1, H, T, K]."""
    assert isinstance(cache, DynamicCache)
    layers = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    return [(cast(Tensor, layer.keys), cast(Tensor, layer.values)) for layer in layers]


def attention_window(config: PreTrainedConfig) -> int | None:
    """How far back tokens see, where some layers see less than the whole row."""
    config = config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or ()
    slides = any("sliding" in kind or "chunked" in kind for kind in kinds)
    if not kinds:
        slides = getattr(config, "use_sliding_window", True) is not False
    endings = ("window", "window_size", "attention_chunk_size", "local_attention")
    sizes = [size for name, size in vars(config).items() if name.endswith(endings)]
    given = [size for size in sizes if isinstance(size, int) and size > 0]
    return min(given) if slides and given else None


def rope_limit(config: PreTrainedConfig) -> int | None:
    """The longest row under the short form of a rotary embedding that changes with the longest row."""
    config = config.get_text_config(decoder=True)
    if not _rope_types(config) & {"longrope", "dynamic"}:
        return None
    limits = [of.get("original_max_position_embeddings") for of in _rope_parameters(config)]
    limits += [getattr(config, "original_max_position_embeddings", None), config.max_position_embeddings]
    return min(limit for limit in limits if isinstance(limit, int))


def _rope_parameters(config: PreTrainedConfig) -> list[dict[str, object]]:
    given = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    nested = [of for of in given.values() if isinstance(of, dict)]
    return nested or [given]


def _rope_types(config: PreTrainedConfig) -> set[object]:
    return {of.get("rope_type") for of in _rope_parameters(config)}


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether weights are kept in fewer bits than a number type of torch's."""
    return getattr(model, "hf_quantizer", None) is not None or hasattr(model.config, "quantization_config")


def arguments_of(model: PreTrainedModel) -> frozenset[str]:
    """The names of what the model's forward takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def _positions(model: PreTrainedModel, first: int, end: int) -> Tensor:
    return torch.arange(first, end, device=model.device)[None]


def _ids(model: PreTrainedModel) -> Tensor:
    """A few different tokens, none of the first ones, which often have a meaning of their own."""
    vocab_size = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    return ((torch.arange(NUM_TOKENS) * 3 + 5) % vocab_size)[None].to(model.device)


def _forward(model: PreTrainedModel, **arguments: object) -> ModelOutput:
    # Copies, as some families scale their input in place.
    copies = {name: value.clone() for name, value in arguments.items() if isinstance(value, Tensor)}
    with torch.no_grad():
        return cast(ModelOutput, model(**{"use_cache": False, **arguments, **copies}))


def _log_probs(model: PreTrainedModel, **arguments: object) -> Tensor:
    return _forward(model, **arguments).logits.float().log_softmax(-1)


def _run_to_first_layer(model: PreTrainedModel, **arguments: object) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities, and what the first layer was given."""
    given: list[Tensor] = []
    first = next((m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)), None)

    def note(_: nn.Module, positional: tuple[object, ...], named: dict[str, object]) -> None:
        states = positional[0] if positional else named.get("hidden_states")
        if isinstance(states, Tensor):
            given.append(states.float())

    hook = first.register_forward_pre_hook(note, with_kwargs=True) if first is not None else None
    try:
        log_probs = _log_probs(model, **arguments)
    finally:
        if hook is not None:
            hook.remove()
    return log_probs, given[0] if given else None


def described(error: Exception) -> str:
    """An exception's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def _limit(model: PreTrainedModel) -> float:
    return ROUNDED if is_quantised(model) else EXACT


def _equal(one: Tensor, other: Tensor, *, limit: float = EXACT) -> bool:
    return bool(((one - other).abs().max() / one.abs().max()) < limit)
