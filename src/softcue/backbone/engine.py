"""The choice of an engine for a loaded model."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal, get_args

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from softcue.backbone import families, verify
from softcue.backbone.base import Backbone
from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.probes import describe_error, in_dtype, is_quantised
from softcue.backbone.stream_lm import StreamLM
from softcue.errors import BackboneError

EngineSetting = Literal["auto", "stream", "plain"]

log = logging.getLogger(__name__)


@torch.enable_grad()
def make_backbone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str, engine: str
) -> Backbone:
    """Put a loaded model on an engine; `auto` takes the stream if it gives the model's own results.

    Raises:
        BackboneError: the chosen engine, or under `auto` neither, can run it.
    """
    if engine not in get_args(EngineSetting):
        raise BackboneError(f"backbone.engine={engine}; choose {', '.join(get_args(EngineSetting))}.")
    if model.config.is_encoder_decoder:
        if engine == "stream":
            raise BackboneError(
                f"backbone.engine=stream runs causal models, and {type(model).__name__} has an encoder. "
                "Use backbone.engine=auto."
            )
        return _report(EncoderDecoderLM(model, tokenizer, name=name), "it has an encoder and a decoder")
    if engine == "plain":
        return _report(PlainLM(model, tokenizer, name=name), "backbone.engine=plain")
    if families.is_verified(model) and not is_quantised(model):
        stream = StreamLM(model, tokenizer, name=name)
        if stream.spec.max_positions >= verify.LONGEST_ROW:
            return _report(stream, "softcue's tests verify this family")
        stream.undo()
    plain = PlainLM(model, tokenizer, name=name)
    log.info("%s (%s) is compared with its own forward", name, type(model).__name__)
    try:
        return _report(_verified_stream(plain, name=name), "it gives the results of the model's own forward")
    except BackboneError as refusal:
        if engine == "stream":
            raise BackboneError(
                f"backbone.engine=stream cannot run {type(model).__name__}: {refusal}. "
                "Use backbone.engine=auto or plain."
            ) from refusal
        return _report(plain, str(refusal))


def _report(lm: Backbone, reason: str) -> Backbone:
    lm.choice = f"{lm.spec.name} ({type(lm.model).__name__}) runs on the {lm.engine} engine: {reason}"
    return lm


def _verified_stream(plain: PlainLM, *, name: str) -> StreamLM:
    """The model on the stream engine, compared with its untouched forward.

    Raises:
        BackboneError: the stream cannot run the model, which is then unchanged.
    """
    model, is_fp32 = plain.model, plain.dtype == torch.float32
    if is_quantised(model):
        raise BackboneError("its weights are quantised")
    families.expect_reachable(model)
    exact = verify.reference(plain)
    own = None if is_fp32 else verify.results(plain, exact.cases)
    compared = partial(_compared_stream, plain, exact=exact, own=own, name=name)
    if is_fp32:
        return compared(fp32_sums=True)
    with suppress(BackboneError):
        return compared(fp32_sums=True)
    return compared(fp32_sums=False)


def _compared_stream(
    plain: PlainLM, *, exact: verify.Reference, own: verify.Results | None, name: str, fp32_sums: bool
) -> StreamLM:
    stream: StreamLM | None = None
    try:
        stream = StreamLM(plain.model, plain.tokenizer, name=name, fp32_sums=fp32_sums)
        if stream.spec.max_positions < verify.LONGEST_ROW:
            raise BackboneError(f"rows would be limited to {stream.spec.max_positions} tokens")
        with in_dtype(plain.model, exact.dtype):
            verify.expect_equal(verify.results(stream, exact.cases), exact)
        if own is not None:
            verify.expect_as_close(verify.results(stream, exact.cases), own, exact.results)
    except Exception as error:
        if stream is not None:
            stream.undo()
        if isinstance(error, BackboneError):
            raise
        # An unknown family may raise anything under a plan; its own forward still runs.
        raise BackboneError(f"the stream fails with {describe_error(error)}") from error
    entry = plain.spec.entry_refusal or verify.entry_refusal(stream, exact)
    stream.spec = replace(stream.spec, prefix_refusal=plain.spec.prefix_refusal, entry_refusal=entry)
    return stream
