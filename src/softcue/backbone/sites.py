"""Where prompts can enter an encoder-decoder, found by running a few tokens through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from softcue.backbone import probes, site_attention
from softcue.backbone.base import KeyValueSizes
from softcue.backbone.site_attention import Site, SitePlan
from softcue.errors import BackboneError

Embed = Callable[[Tensor], Tensor]
SITES = ("encoder", "decoder", "cross")
"""Self-attention of the encoder and of the decoder, and the decoder's attention to the encoder."""
ROW, TEXT = probes.NUM_TOKENS, 3
"""Tokens of the probe in the encoder and in the decoder."""


def start_token(model: PreTrainedModel) -> int:
    """The token that the decoder starts with.

    Raises:
        BackboneError: the model's config names none.
    """
    for settings in (model.config, model.generation_config):
        start = getattr(settings, "decoder_start_token_id", None)
        if isinstance(start, int):
            return start
    raise BackboneError(
        f"{type(model).__name__} has no decoder_start_token_id in its config.json or "
        "generation_config.json; add it there."
    )


def embeddings(model: PreTrainedModel, start: int) -> tuple[Embed, Embed]:
    """Ids to embeddings as the encoder and as the decoder apply them.

    Raises:
        BackboneError: embeddings cannot replace tokens in one of them.
    """
    row_1E = probes.probe_ids(model)
    text_1J = torch.tensor([[start, 5, 6]], device=model.device)
    expected = probes.run(model, input_ids=row_1E, decoder_input_ids=text_1J).logits
    scales = 1.0, float(model.config.hidden_size**0.5)
    # Some families scale embeddings where ids come in, some where vectors do, and some are of two minds.
    for one, other in ((first, second) for first in scales for second in scales):
        encoder = _scaled(model.get_encoder(), model.device, one)
        decoder = _scaled(model.get_decoder(), model.device, other)
        found = probes.run(
            model, inputs_embeds=encoder(row_1E), decoder_inputs_embeds=decoder(text_1J)
        ).logits
        if probes.equal(model, expected, found, exact=True):
            return encoder, decoder
    raise BackboneError(
        f"{type(model).__name__} uses token ids in more places than its embeddings, so that no vectors can "
        "replace tokens in it; choose another family."
    )


def _scaled(part: nn.Module, device: torch.device, scale: float) -> Embed:
    table = cast(PreTrainedModel, part).get_input_embeddings()

    def embed(ids: Tensor) -> Tensor:
        with torch.no_grad():
            vectors: Tensor = table(ids.to(device))
        return vectors if scale == 1.0 else vectors * scale

    return embed


def find(model: PreTrainedModel) -> tuple[dict[str, Site], str | None]:
    """The model's attention by site, and why it takes no keys and values in front if it does not.

    The model's attention follows plans from here on, if it can be reached.
    """
    own = str(model.config._attn_implementation)
    expected = _probe(model)
    try:
        model.set_attn_implementation(site_attention.NAME)
        plan = SitePlan(seen=[])
        with site_attention.use_site_plan(plan):
            found = _probe(model)
        assert plan.seen is not None
        names = {(ROW, ROW): "encoder", (TEXT, TEXT): "decoder", (TEXT, ROW): "cross"}
        seen: dict[str, list[nn.Module]] = {name: [] for name in SITES}
        for module, queries, keys in plan.seen:
            seen[names[queries, keys]].append(module)
        if not all(seen.values()) or not probes.equal(model, expected, found, exact=True):
            raise BackboneError("it does not use transformers' attention interface")
    except Exception as error:  # noqa: BLE001 - families raise anything
        model.set_attn_implementation(own)
        return {}, f"its attention cannot be reached ({probes.describe_error(error)})"
    found_sites = {
        name: Site(modules=tuple(modules), relative=_relative(modules)) for name, modules in seen.items()
    }
    refusal = None
    if found_sites["decoder"].relative is None:
        refusal = "its positions are absolute, which a prefix would shift; T5's are relative"
    return found_sites, refusal


def _relative(modules: Sequence[nn.Module]) -> nn.Module | None:
    """The module with T5's bias of relative positions, which its site's others share."""
    return next(filter(_has_bias, modules), None)


def _has_bias(module: nn.Module) -> bool:
    return bool(getattr(module, "has_relative_attention_bias", False))


def relative_of(found: Mapping[str, Site]) -> dict[nn.Module, nn.Module | None]:
    """The module that computes each one's bias of relative positions: its own, or that which layers share."""
    return {
        module: module if _has_bias(module) else site.relative
        for site in found.values()
        for module in site.modules
    }


def sizes(model: PreTrainedModel, found: Mapping[str, Site]) -> KeyValueSizes:
    """The shape of the keys and values of all sites; zeros if the attention cannot be reached."""
    plan = SitePlan(layer_of=numbered(found), captured={})
    with site_attention.use_site_plan(plan):
        _probe(model)
    if not plan.captured:
        return KeyValueSizes()
    keys, values = plan.captured[0]
    return KeyValueSizes(
        num_layers=len(plan.captured),
        num_heads=keys.shape[1],
        key_size=keys.shape[3],
        value_size=values.shape[3],
    )


def numbered(found: Mapping[str, Site]) -> dict[nn.Module, int]:
    """Each attention module's layer."""
    modules = [module for site in found.values() for module in site.modules]
    return {module: number for number, module in enumerate(modules)}


def layers_of(found: Mapping[str, Site]) -> dict[str, range]:
    """Which layers belong to each site."""
    number = numbered(found)
    return {
        name: range(number[site.modules[0]], number[site.modules[-1]] + 1) for name, site in found.items()
    }


def _probe(model: PreTrainedModel) -> Tensor:
    ids_1J = torch.tensor([[start_token(model), 5, 6]], device=model.device)
    # A mask without values cannot be read.
    is_meta = model.device.type == "meta"
    mask = None if is_meta else torch.ones(1, ROW, dtype=torch.long, device=model.device)
    return probes.run(
        model, input_ids=probes.probe_ids(model), decoder_input_ids=ids_1J, attention_mask=mask
    ).logits
