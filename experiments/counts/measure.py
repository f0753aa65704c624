"""Trainable parameters, ours beside PEFT's, on models that have shapes but no weights.

`python -m experiments.counts.measure` writes table.md: a minute, no network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptLearningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import Generator, nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import BackboneSpec, SoftPrompt
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.p_tuning import PTuningLSTM, PTuningMLP
from softcue.prompts.place import place
from softcue.prompts.prefix_tuning import PrefixTuning, ProjectedPrefixTuning
from softcue.prompts.prompt_tuning import PromptTuning
from tests.tiny import tiny_tokenizer

START: dict[str, Any] = {"decoder_start_token_id": 0}
TABLE = Path(__file__).with_name("table.md")
MODELS: dict[str, Callable[[], nn.Module]] = {
    "bloomz-560m": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=250_880, hidden_size=1024, n_layer=24, n_head=16)
    ),
    "t5-base": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=32_128, d_model=768, d_ff=3072, num_layers=12, num_heads=12, **START)
    ),
    "mt0-large": lambda: MT5ForConditionalGeneration(
        MT5Config(vocab_size=250_112, d_model=1024, d_ff=2816, num_layers=24, num_heads=16, **START)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method's setting, as ours and as PEFT's."""

    model: str
    what: str
    tokens: int
    ours: Callable[..., SoftPrompt]
    theirs: Callable[..., PromptLearningConfig] | None
    submodules: int | None = None
    attentions: list[str] | None = None


def cases() -> list[Case]:
    prefix = partial(PrefixTuning, through_backbone=False)
    lstm = partial(PTuningLSTM, num_layers=2, dropout=0.0)
    their_lstm = partial(PromptEncoderConfig, encoder_reparameterization_type="LSTM")
    found = [
        Case(
            model="bloomz-560m", what="prompt tuning", tokens=8, ours=PromptTuning, theirs=PromptTuningConfig
        )
    ]
    for width in (128, 1024):
        common: dict[str, Any] = {"model": "bloomz-560m", "tokens": 20}
        found += [
            Case(
                **common,
                what=f"P-tuning, MLP of {width}",
                ours=partial(PTuningMLP, hidden_size=width),
                theirs=partial(PromptEncoderConfig, encoder_hidden_size=width),
            ),
            Case(
                **common,
                what=f"P-tuning, LSTM of {width}",
                ours=partial(lstm, hidden_size=width),
                theirs=partial(their_lstm, encoder_hidden_size=width),
            ),
        ]
    found += [
        Case(model="bloomz-560m", what="prefix tuning", tokens=tokens, ours=prefix, theirs=PrefixTuningConfig)
        for tokens in (20, 30)
    ]
    found.append(
        Case(
            model="bloomz-560m",
            what="prefix tuning, projected by an MLP of 1024",
            tokens=20,
            ours=partial(ProjectedPrefixTuning, hidden_size=1024),
            theirs=partial(PrefixTuningConfig, prefix_projection=True, encoder_hidden_size=1024),
        )
    )
    for model in ("t5-base", "mt0-large"):
        for submodules in (1, 2):
            inputs = "both inputs" if submodules == 2 else "the encoder's row"
            found.append(
                Case(
                    model=model,
                    what=f"prompt tuning in {inputs}",
                    tokens=20,
                    ours=PromptTuning,
                    theirs=partial(PromptTuningConfig, num_transformer_submodules=submodules),
                    submodules=submodules,
                )
            )
        found += [
            Case(
                model=model,
                what="P-tuning in both inputs, MLP of 768",
                tokens=20,
                ours=partial(PTuningMLP, hidden_size=768),
                theirs=partial(PromptEncoderConfig, encoder_hidden_size=768, num_transformer_submodules=2),
                submodules=2,
            ),
            Case(
                model=model,
                what="prefix tuning in the decoder",
                tokens=20,
                ours=prefix,
                theirs=PrefixTuningConfig,
                attentions=["decoder"],
            ),
            Case(model=model, what="prefix tuning in every attention", tokens=20, ours=prefix, theirs=None),
        ]
    return found


def on_meta(name: str) -> PreTrainedModel:
    """The model's shapes."""
    with torch.device("meta"):
        return cast(PreTrainedModel, MODELS[name]())


def spec_of(name: str) -> BackboneSpec:
    """What our methods see of the model."""
    engine = StreamLM if name == "bloomz-560m" else EncoderDecoderLM
    return engine(on_meta(name), tiny_tokenizer(), name=name).spec


def line(case: Case, spec: BackboneSpec) -> str:
    """The table's line."""
    prompt = place(
        partial(case.ours, generator=Generator().manual_seed(0), initialiser=RandomNormal(std=0.1)),
        spec=spec,
        num_virtual_tokens=case.tokens,
        submodules=case.submodules,
        attentions=case.attentions,
    )
    ours = sum(parameter.numel() for parameter in prompt.parameters())
    theirs = "–"
    if case.theirs is not None:
        kind = "CAUSAL_LM" if case.model == "bloomz-560m" else "SEQ_2_SEQ_LM"
        config = case.theirs(task_type=kind, num_virtual_tokens=case.tokens)
        with torch.device("meta"):
            count, _ = get_peft_model(on_meta(case.model), config).get_nb_trainable_parameters()
        assert count == ours, (case, count, ours)
        theirs = f"{count:,}"
    return f"| {case.model} | {case.what} | {case.tokens} | {ours:,} | {theirs} |"


def table() -> str:
    """A line for each case; AssertionError where PEFT counts otherwise."""
    specs = {name: spec_of(name) for name in MODELS}
    sizes = ", ".join(f"{name} {spec.num_parameters:,}" for name, spec in specs.items())
    heading = "| model | method | virtual tokens | ours | PEFT's |\n|---|---|---:|---:|---:|\n"
    lines = "\n".join(line(case, specs[case.model]) for case in cases())
    return f"{heading}{lines}\n\nFrozen parameters: {sizes}.\n"


if __name__ == "__main__":
    TABLE.write_text(table())
