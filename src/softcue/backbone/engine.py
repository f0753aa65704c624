"""Which engine runs a loaded model, and why."""

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
from softcue.backbone.plain_lm import PlainLM
from softcue.backbone.probes import described, is_quantised
from softcue.backbone.stream_lm import StreamLM
from softcue.errors import BackboneError

EngineSetting = Literal["auto", "stream", "plain"]

log = logging.getLogger(__name__)


@torch.enable_grad()
def make_backbone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, name: str, engine: str
) -> Backbone:
    """A loaded model on the engine that is asked for, or on the fastest that gives its own results.

    Raises:
        BackboneError: the engine asked for, or under `auto` neither, can run it.
    """
    if engine not in get_args(EngineSetting):
        raise BackboneError(f"backbone.engine={engine}; choose {', '.join(get_args(EngineSetting))}.")
    if engine == "plain":
        return _chosen(PlainLM(model, tokenizer, name=name), "as backbone.engine says")
    if families.is_verified(model) and not is_quantised(model):
        stream = StreamLM(model, tokenizer, name=name)
        if stream.spec.max_positions >= verify.LONGEST_ROW:
            return _chosen(stream, "a family that softcue's tests verify")
        stream.undo()
    plain = PlainLM(model, tokenizer, name=name)
    log.info("%s (%s) is compared with its own forward", name, type(model).__name__)
    try:
        return _chosen(_verified_stream(plain, name=name), "it gives what the model's own forward gives")
    except BackboneError as refusal:
        if engine == "stream":
            raise BackboneError(
                f"backbone.engine=stream cannot run {type(model).__name__}: {refusal}. "
                "Use backbone.engine=auto or plain."
            ) from refusal
        return _chosen(plain, str(refusal))


def _chosen(lm: Backbone, why: str) -> Backbone:
    log.info("%s (%s) runs on the %s engine: %s", lm.spec.name, type(lm.model).__name__, lm.engine, why)
    return lm


def _verified_stream(plain: PlainLM, *, name: str) -> StreamLM:
    """The model on the stream engine, compared with its untouched forward.

    Raises:
        BackboneError: why it cannot be; the model is untouched then.
    """
    model, in_full = plain.model, plain.dtype == torch.float32
    if is_quantised(model):
        raise BackboneError("its weights are quantised")
    families.expect_reachable(model)
    exact = verify.reference(plain)
    own = None if in_full else verify.results(plain, exact.cases)
    compared = partial(_compared_stream, plain, exact=exact, own=own, name=name)
    if in_full:
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
        with verify.in_dtype(plain.model, exact.dtype):
            verify.expect_equal(verify.results(stream, exact.cases), exact)
        if own is not None:
            verify.expect_as_close(verify.results(stream, exact.cases), own, exact.results)
    except Exception as error:
        if stream is not None:
            stream.undo()
        if isinstance(error, BackboneError):
            raise
        # Whatever an unknown family raises under the plan, its own forward still runs.
        raise BackboneError(f"the stream fails with {described(error)}") from error
    stream.spec = replace(stream.spec, prefix_refusal=plain.spec.prefix_refusal)
    return stream
