"""Runs of a model that enter at a layer: its input is taken from the layers below, or given.

A layer's input is its first argument, or `hidden_states`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from softcue.backbone import families
from softcue.backbone.probes import Embed, describe_error, equal, log_probs, probe_ids
from softcue.errors import BackboneError


def layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's layers, in the order in which they run.

    Raises:
        BackboneError: they are no single list, or their states differ in size from embeddings.
    """
    config = model.config.get_text_config(decoder=True)
    lists = [child for child in families.layers_of(model).children() if isinstance(child, nn.ModuleList)]
    found = [one for one in lists if len(one) == config.num_hidden_layers]
    if len(found) != 1:
        raise BackboneError("its layers are no single list")
    if cast(Tensor, model.get_input_embeddings().weight).shape[1] != config.hidden_size:
        raise BackboneError("its states differ in size from its embeddings")
    return found[0]


@contextmanager
def taken(model: PreTrainedModel, layer: int) -> Iterator[list[Tensor]]:
    """Add the input of a layer [B, T, D] to the list, at every run inside this context."""
    states: list[Tensor] = []

    def take(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(positional[0] if positional else named["hidden_states"])

    hook = layers(model)[layer].register_forward_pre_hook(take, with_kwargs=True)
    try:
        yield states
    finally:
        hook.remove()


@contextmanager
def given(model: PreTrainedModel, layer: int, states_BTD: Tensor) -> Iterator[None]:
    """Give a layer these states in place of its input."""

    def give(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        if positional:
            return (states_BTD, *positional[1:]), named
        return positional, {**named, "hidden_states": states_BTD}

    hook = layers(model)[layer].register_forward_pre_hook(give, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def skipped(model: PreTrainedModel, which: slice, states_BTD: Tensor) -> Iterator[None]:
    """Do not run some of the layers: each returns these states, of which nothing may be made."""
    modules = list(layers(model)[which])
    before = [vars(module).get("forward") for module in modules]
    try:
        for module in modules:
            vars(module)["forward"] = lambda *_, **__: states_BTD
        yield
    finally:
        for module, forward in zip(modules, before, strict=True):
            families.set_forward(module, forward)


def refusal(model: PreTrainedModel, embed: Embed) -> str | None:
    """Why no prompt can enter above the first layer; None if the layers above need their input alone.

    Other tokens run below them than those whose states they are given.
    """
    vectors_1TD = embed(probe_ids(model))
    try:
        middle = len(layers(model)) // 2
        with taken(model, middle) as states:
            own = log_probs(model, inputs_embeds=vectors_1TD)
        with given(model, middle, states[0].clone()):
            entered = log_probs(model, inputs_embeds=torch.flip(vectors_1TD, dims=(1,)))
    except BackboneError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - families raise anything
        return f"its layers cannot be entered ({describe_error(error)})"
    return None if equal(model, own, entered, exact=True) else "its upper layers read more than their input"
