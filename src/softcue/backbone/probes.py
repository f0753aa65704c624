"""Properties of a causal language model, found by running a few tokens through it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from softcue.backbone.row_limits import max_positions, rope_depends_on_length
from softcue.errors import BackboneError

NUM_TOKENS = 8
NUM_PADS = 125
"""An odd number, after which the tokens cross position 128: sparse attention takes keys by blocks of up to so
many positions, padding included."""
NO_GRADIENT = 1e-5
"""The largest gradient, relative to the largest of all, at a token on which a result does not depend."""
EXACT, ROUNDED = 1e-4, 0.1
"""Limits of the difference between two equal runs, relative to the largest log-probability: with exact
weights in fp32, and with quantised ones."""

Embed = Callable[[Tensor], Tensor]


class ModelOutput(Protocol):
    """The attributes read from the output of transformers' causal language models."""

    logits: Tensor
    past_key_values: object
    attentions: tuple[Tensor, ...] | None


@contextmanager
def in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Widen all weights to `dtype` inside this context; restore them to the bit afterwards.

    Weights that are wider already stay as they are.
    """
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.is_floating_point()]
    before = [tensor.dtype for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(torch.promote_types(tensor.dtype, dtype))
        yield
    finally:
        for tensor, own in zip(tensors, before, strict=True):
            tensor.data = tensor.data.to(own)


def check_runs(model: PreTrainedModel) -> None:
    """Refuse a model that cannot run a row in its own dtype."""
    try:
        log_probs(model, input_ids=probe_ids(model))
    except Exception as error:  # families raise anything
        raise BackboneError(
            f"{type(model).__name__} cannot run a row of tokens in {model.dtype} ({describe_error(error)}); "
            "choose another model, another backbone.dtype, or add what its config.json lacks."
        ) from error


def check_causal(model: PreTrainedModel) -> None:
    """Refuse a model in which a token sees later ones: it would see labels that it has to predict."""
    ids_1T = probe_ids(model)
    changed_1T = ids_1T.clone()
    changed_1T[:, -1] = ids_1T[:, 0]
    before, after = (log_probs(model, input_ids=ids)[:, :-1] for ids in (ids_1T, changed_1T))
    if not equal(model, before, after):
        raise _not_causal(model)


def _not_causal(model: PreTrainedModel) -> BackboneError:
    return BackboneError(
        f"{type(model).__name__} lets tokens see later ones, so it is no causal language model; "
        "choose another, or set is_decoder=true in its config.json if that makes it a decoder."
    )


def embedding_scale(model: PreTrainedModel) -> float:
    """The factor by which the model multiplies its embedding module's output when it is given ids.

    Raises:
        BackboneError: embeddings cannot replace tokens in this model.
    """
    ids_1T = probe_ids(model)
    vectors_1TD = model.get_input_embeddings()(ids_1T)
    from_ids, state_of_ids = _run_to_first_layer(model, input_ids=ids_1T)
    cause: Exception | None = None
    try:
        from_vectors, state_of_vectors = _run_to_first_layer(model, inputs_embeds=vectors_1TD)
        if equal(model, from_ids, from_vectors):
            return 1.0
        if state_of_ids is not None and state_of_vectors is not None:
            scale = float((state_of_ids * state_of_vectors).sum() / state_of_vectors.square().sum())
            if equal(model, from_ids, log_probs(model, inputs_embeds=vectors_1TD * scale)):
                return scale
    except Exception as error:  # noqa: BLE001 - a family that needs ids may raise anything without them
        cause = error
    raise BackboneError(
        f"{type(model).__name__} uses token ids in more places than its embedding, so that no vectors can "
        "replace tokens in it; choose another family."
    ) from cause


def check_gradients(model: PreTrainedModel, embed: Embed) -> None:
    """Refuse a model whose backward pass does not reach its input: no prompt could be trained.

    Quantised layers bring a backward pass of their own, so there the gradient of a log-probability is
    compared with its change over a step along the gradient, and early log-probabilities must have no
    gradient at later tokens, a dependence that rounding may hide from `check_causal`.
    """
    vectors_1TD = embed(probe_ids(model)).detach().requires_grad_()
    token = int(log_probs(model, inputs_embeds=vectors_1TD)[0, -1].argmax())

    def score(at_1TD: Tensor) -> Tensor:
        output = cast(ModelOutput, model(inputs_embeds=at_1TD, use_cache=False))
        return output.logits[0, -1].float().log_softmax(-1)[token]

    value = score(vectors_1TD.clone())
    if value.requires_grad:
        (gradient_1TD,) = torch.autograd.grad(value, vectors_1TD)
        if gradient_1TD.any() and not is_quantised(model):
            return
        if _is_slope(gradient_1TD.float(), score, vectors_1TD.detach()):
            if _depends_on_later_tokens(model, vectors_1TD):
                raise _not_causal(model)
            return
    raise BackboneError(
        f"{type(model).__name__} gives its input no gradient, or a wrong one, on {model.device.type}: no "
        "prompt could be trained. Load it in another precision or quantisation, or on another device."
    )


def _depends_on_later_tokens(model: PreTrainedModel, vectors_1TD: Tensor) -> bool:
    logits = cast(ModelOutput, model(inputs_embeds=vectors_1TD.clone(), use_cache=False)).logits
    half = NUM_TOKENS // 2
    early = logits[:, :half].float().log_softmax(-1).amax(-1).sum()
    (gradient_1TD,) = torch.autograd.grad(early, vectors_1TD)
    return bool(gradient_1TD[:, half:].abs().max() > NO_GRADIENT * gradient_1TD.abs().max())


def _is_slope(gradient_1TD: Tensor, score: Callable[[Tensor], Tensor], at_1TD: Tensor) -> bool:
    size, length = float(gradient_1TD.norm()), float(at_1TD.float().norm())
    # A short step suffices where numbers are exact; rounded ones need a longer step.
    for share in (0.001, 0.01, 0.05) if size > 0 else ():
        step_1TD = (gradient_1TD * (share * length / size)).to(at_1TD.dtype)
        with torch.no_grad():
            change = float(score(at_1TD + step_1TD) - score(at_1TD - step_1TD))
        if 1 / 3 < change / (2 * share * length * size) < 3:
            return True
    return False


def counts_positions_from_0(model: PreTrainedModel, embed: Embed) -> bool:
    """Whether the model takes position ids, and its own start at 0."""
    if "position_ids" not in arguments_of(model):
        return False
    vectors_1TD = embed(probe_ids(model))
    positions_1T = torch.arange(NUM_TOKENS, device=model.device)[None]
    ours = log_probs(model, inputs_embeds=vectors_1TD, position_ids=positions_1T)
    return equal(model, ours, log_probs(model, inputs_embeds=vectors_1TD), exact=True)


def pads_are_exact(model: PreTrainedModel, embed: Embed, *, positions: bool) -> bool:
    """Whether a row gives the same result after padding, and beside a longer row."""
    if rope_depends_on_length(model.config):
        return False
    vectors_1TD = embed(probe_ids(model))
    num_pads = NUM_PADS if max_positions(model.config) >= NUM_PADS + NUM_TOKENS else 5
    padded = torch.cat([vectors_1TD[:, :1].expand(-1, num_pads, -1), vectors_1TD], dim=1)
    mask = torch.tensor([[0] * num_pads + [1] * NUM_TOKENS], device=model.device)
    alone = log_probs(model, inputs_embeds=vectors_1TD)
    named = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if positions else {}
    after_pads = log_probs(model, inputs_embeds=padded, attention_mask=mask, **named)[:, num_pads:]
    return equal(model, alone, after_pads, exact=True)


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether the weights are stored in a quantised format."""
    quantizer = getattr(model, "hf_quantizer", None)
    return quantizer is not None or getattr(model.config, "quantization_config", None) is not None


def arguments_of(model: PreTrainedModel) -> frozenset[str]:
    """The names of the arguments of the model's forward."""
    return frozenset(inspect.signature(model.forward).parameters)


def probe_ids(model: PreTrainedModel) -> Tensor:
    """A few different tokens [1, T], none of the first ones, which are often special."""
    vocab_size = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    return ((torch.arange(NUM_TOKENS) * 3 + 5) % vocab_size)[None].to(model.device)


def run(model: PreTrainedModel, **arguments: object) -> ModelOutput:
    """The model's output without gradients."""
    # Copies, as some families scale their input in place.
    copies = {name: value.clone() for name, value in arguments.items() if isinstance(value, Tensor)}
    with torch.no_grad():
        return cast(ModelOutput, model(**{"use_cache": False, **arguments, **copies}))


def log_probs(model: PreTrainedModel, **arguments: object) -> Tensor:
    """Next-token log-probabilities, fp32: [1, T, V]."""
    return run(model, **arguments).logits.float().log_softmax(-1)


def equal(model: PreTrainedModel, one: Tensor, other: Tensor, *, exact: bool = False) -> bool:
    """Whether two results of a model differ by rounding alone; `exact` allows quantised weights no more.

    What changes how rows are run has to be exact: a difference of 10 % would be a wrong result.
    """
    if one.device.type == "meta":
        return True  # a model without weights is only asked for its sizes
    limit = ROUNDED if is_quantised(model) and not exact else EXACT
    return bool(((one - other).abs().max() / one.abs().max()) < limit)


def describe_error(error: Exception) -> str:
    """An exception's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def _run_to_first_layer(model: PreTrainedModel, **arguments: object) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities, and the input of the first layer."""
    inputs: list[Tensor] = []
    first = next((m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)), None)

    def keep(_: nn.Module, positional: tuple[object, ...], named: dict[str, object]) -> None:
        states = positional[0] if positional else named.get("hidden_states")
        if isinstance(states, Tensor):
            inputs.append(states.float())

    hook = first.register_forward_pre_hook(keep, with_kwargs=True) if first is not None else None
    try:
        result = log_probs(model, **arguments)
    finally:
        if hook is not None:
            hook.remove()
    return result, inputs[0] if inputs else None
