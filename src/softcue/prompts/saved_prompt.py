"""A trained prompt as it is: nothing is trained, a run scores it and writes its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Generator

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt
from softcue.errors import ConfigError, RunError
from softcue.formats.numpy_file import SUFFIX, open_numpy
from softcue.formats.peft import CAUSAL, CONFIG, ENCODER_DECODER
from softcue.formats.peft_reader import Adapter, open_adapter
from softcue.formats.prompt_file import PROMPT, PromptFile, open_prompt
from softcue.formats.source import PromptSource, model_sizes
from softcue.row_rules import PREFIX, RowRule


class SavedPrompt(SoftPrompt):
    """The prompt of a complete run, of a PEFT adapter or of a .npy file, as buffers: it has no parameters.

    Raises:
        ConfigError: it was trained for another model or another layout.
        RunError: there is no prompt at `path`, or a damaged one.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        path: str,
        member: int | None,
        layout: str,
    ) -> None:
        super().__init__()
        bank, own_layout = read_prompt(path, spec=spec, member=member, key="prompt")
        (length,) = set(bank.num_virtual_tokens)
        if length != num_virtual_tokens or own_layout not in (layout, None):
            wanted = own_layout or f"[soft:{length}]{{input}}"
            raise ConfigError(
                f"prompt.path={path} has {length} virtual tokens, trained for layout {wanted!r}, and "
                f"prompt.layout is {layout!r}; set prompt.layout='\"{wanted}\"', or start training from it "
                "in your layout with prompt/initialiser=saved."
            )
        self.in_layers, self._attentions = bank.keys_TLHPK is not None, bank.attentions
        self._first_layer, self._rule = bank.first_layer, bank.row_rule and bank.row_rule.kind
        for name, tensor in bank.tensors().items():
            self.register_buffer(name, tensor)

    def forward(self) -> PromptBank:
        tensors: dict[str, Any] = dict(self.named_buffers())
        rule = self._rule and RowRule.of(self._rule, tensors)
        own = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
        return PromptBank(**own, first_layer=self._first_layer, attentions=self._attentions, row_rule=rule)


def read_prompt(
    path: str, *, spec: BackboneSpec, member: int | None, key: str
) -> tuple[PromptBank, str | None]:
    """One prompt that fits the model, and the layout it was trained for if that is known.

    `path` is a run's folder, a prompt.safetensors, a .npy file or a PEFT adapter's folder; `member` chooses
    among the prompts of an ensemble or of a multitask adapter. `key` is the config key that holds both.

    Raises:
        ConfigError: no such member, or a prompt for another model; its numbers are not read then.
        RunError: no prompt, or a damaged one.
    """
    source = open_source(path, where=f"{key}.path={path}")
    count = source.shape.num_prompts
    if (member is None and count > 1) or not 0 <= (member or 0) < count:
        raise ConfigError(
            f"{key}.path={path} holds {count} prompts and {key}.member is {member}; choose one "
            f"from 0 to {count - 1}."
        )
    expect_fits(source, spec, f"{key}.path={path}")
    return source.bank().member(member or 0), source.layout


def expect_fits(source: PromptSource, spec: BackboneSpec, where: str) -> None:
    """Refuse a prompt for another model, before its numbers are read; ConfigError names both models."""
    sizes, own = source.shape.sizes, model_sizes(spec, source.shape)
    # A PEFT adapter names its model in another way than a config does.
    other_name = isinstance(source, PromptFile) and source.made_for != spec.name
    if not sizes or other_name or sizes != own:
        raise ConfigError(
            f"{where} was trained for {source.made_for} ({sizes}), and this run has {spec.name} ({own}); a "
            "prompt only fits its own model: choose that backbone."
        )
    kind = source.config.task_type if isinstance(source, Adapter) else None
    if kind in (CAUSAL, ENCODER_DECODER) and (kind == ENCODER_DECODER) != spec.targets_apart:
        other = "an encoder-decoder" if spec.targets_apart else "a decoder"
        raise ConfigError(
            f"{where} has task_type {kind}, and {spec.name} is {other}; choose the backbone that it was "
            "trained on."
        )
    if source.shape.num_tokens > spec.max_positions:
        raise ConfigError(
            f"{where} has {source.shape.num_tokens} virtual tokens, and {spec.name} has "
            f"{spec.max_positions} positions; choose a shorter prompt."
        )


def expect_start(bank: PromptBank, where: str) -> None:
    """Refuse, as a start for others, a prompt that enters above the first layer or looks at the row."""
    expect_same_in_all_rows(bank, where)
    if bank.first_layer:
        raise ConfigError(
            f"{where} holds a prompt that enters at layer {bank.first_layer}, where no other method starts; "
            "give one that enters at the first, or score it as it is with prompt=saved."
        )


def expect_same_in_all_rows(bank: PromptBank, where: str) -> None:
    """Refuse a prompt that rows mix where one for all rows is needed."""
    if bank.row_rule is not None:
        raise ConfigError(
            f"{where} holds a prompt that looks at the row, and one for all rows is needed here; give one of "
            "another method, or score it as it is with prompt=saved."
        )


def open_source(path: str, *, where: str) -> PromptSource:
    """A run's folder, a prompt file or an adapter's folder; RunError, with `where`, if it is none."""
    place = Path(path)
    if (place / PROMPT).is_file():
        return open_prompt(place / PROMPT)
    if (place / CONFIG).is_file():
        return open_adapter(place)
    if place.is_file() and place.suffix == SUFFIX:
        return open_numpy(place)
    if place.is_file():
        return open_prompt(place)
    raise RunError(
        f"{where} holds no prompt; give the folder of a complete run, a {PROMPT}, a {SUFFIX} file or the "
        "folder of a PEFT adapter."
    )
