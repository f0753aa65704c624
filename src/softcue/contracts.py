"""The data that rooms exchange: a frozen model's shape, a bank of prompts, a batch of rows.

Shape legend, used everywhere: B rows, T positions (in a batch) or prompts (in a bank), P virtual
tokens, D hidden size, L layers, H key-value heads, K head size, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softcue.errors import ConfigError, LayerError
from softcue.row_rules import RowRule

Vote = Literal["majority", "mean_likelihood"]
"""How the prompts of an ensemble choose a row's class together."""

Ids = tuple[int, ...]
"""Consecutive tokens: `id >= 0` is a vocabulary token, `-1 - k` is virtual token k."""

Choices = tuple[Ids, ...]
"""The label tokens of each class, in class order, with the end token if the task asks for one."""


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """The facts about a frozen model that a soft-prompt method may use."""

    name: str
    hidden_size: int
    num_layers: int
    num_kv_heads: int
    head_size: int
    """Size of one head's key."""
    value_size: int
    """Size of one head's value; in most models the same as its key's."""
    max_positions: int
    num_parameters: int
    vocab_size: int
    embed: Callable[[Tensor], Tensor]
    """Ids [N] to embeddings [N, D] as the model applies them: these vectors can replace the tokens."""
    tokenize: Callable[[str], list[int]]
    """Text to vocabulary ids. Text with a leading space continues a row; other text starts one."""
    key_values: Callable[[Tensor], tuple[Tensor, Tensor]]
    """Embeddings [P, D], run from position 0, to their keys and values [L, H, P, K] each."""
    states: Callable[[Tensor, int], Tensor]
    """Embeddings [P, D], run from position 0, to their states [P, D] where they enter a layer."""
    prefix_refusal: str | None = None
    """Why this model takes no keys and values in front of a row; None if it does."""
    entry_refusal: str | None = None
    """Why this model takes no prompt that enters above its first layer; None if it does."""
    num_submodules: int = 1
    """Inputs that take virtual tokens of their own: 2 for an encoder and a decoder."""
    targets_apart: bool = False
    """Whether labels and texts are inputs of their own, and do not continue the row."""
    attentions: Mapping[str, range] = field(default_factory=dict)
    """Which of the L layers belong to each kind of attention, by name, in a model with several kinds."""

    def expect_submodules(self, count: int) -> None:
        """Refuse a prompt for more inputs than the model has; ConfigError names both."""
        if not 1 <= count <= self.num_submodules:
            raise ConfigError(
                f"prompt.submodules is {count}, and backbone {self.name} takes virtual tokens in "
                f"{self.num_submodules} of its inputs; 2 is for encoder-decoders such as "
                "backbone=t5_base_lm_adapt. Set it to null or 1."
            )

    def only(self, attentions: Sequence[str] | None) -> BackboneSpec:
        """The model as prompts of keys and values in these attentions see it; None: in all.

        Raises:
            ConfigError: no attention, or one that the model does not have.
        """
        if attentions is None:
            return self
        if not attentions or any(name not in self.attentions for name in attentions):
            raise ConfigError(
                f"prompt.attentions is {list(attentions)}, and backbone {self.name} has "
                f"{list(self.attentions) or 'one kind of attention only'}; set it to null for all."
            )
        layers = [layer for name in self.attentions if name in attentions for layer in self.attentions[name]]

        def key_values(embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
            keys_LHPK, values_LHPK = self.key_values(embeddings_PD)
            return keys_LHPK[layers], values_LHPK[layers]

        return replace(self, num_layers=len(layers), key_values=key_values)

    def expect_prefixes(self) -> None:
        """Refuse a prompt of keys and values if the model takes none.

        Raises:
            ConfigError: the model takes none; the message gives the reason.
        """
        if self.prefix_refusal is not None:
            raise ConfigError(
                f"backbone {self.name} takes no keys and values in front of a row: {self.prefix_refusal}. "
                "Choose a method of embeddings, such as prompt=prompt_tuning, or another backbone."
            )

    def entry(self, first_layer: int | None, *, name: str) -> int:
        """The layer that a prompt enters; None is the middle one.

        Raises:
            ConfigError: the model has no such layer, or takes no prompt there; `name` is the setting.
        """
        layer = self.num_layers // 2 if first_layer is None else first_layer
        if layer != 0 and self.entry_refusal is not None:
            raise ConfigError(
                f"backbone {self.name} takes no prompt above its first layer: {self.entry_refusal}. Set "
                f"{name}=0, or choose another backbone."
            )
        if not 0 <= layer < max(1, self.num_layers):
            raise LayerError(setting=name, layer=layer, backbone=self.name, num_layers=self.num_layers)
        return layer

    def from_layer(self, first_layer: int) -> BackboneSpec:
        """The model as prompts of keys and values see it that enter at this layer."""

        def key_values(embeddings_PD: Tensor) -> tuple[Tensor, Tensor]:
            keys_LHPK, values_LHPK = self.key_values(embeddings_PD)
            return keys_LHPK[first_layer:], values_LHPK[first_layer:]

        return replace(self, num_layers=self.num_layers - first_layer, key_values=key_values)

    @property
    def embedding_VD(self) -> Tensor:
        """The embedding of every vocabulary token, as the model applies it."""
        return self.embed(torch.arange(self.vocab_size))

    @property
    def key_value_width(self) -> int:
        """Numbers in one token's keys and values over all layers: L H (K of keys + K of values)."""
        return self.num_layers * self.num_kv_heads * (self.head_size + self.value_size)


@dataclass(frozen=True, kw_only=True)
class PromptBank:
    """T prompts of P virtual tokens, in one of the two forms that a frozen model takes.

    Embeddings replace the virtual tokens wherever a row has them. Keys and values come in front of the
    row in every layer. A bank with neither is the empty prompt: plain text. The batch says which prompt
    each row uses; if the bank has only one, all rows use it.

    Below `first_layer` rows are plain text: no token sees a virtual one, and positions count words alone.
    At its input embeddings stand in the virtual tokens' places as states, or from there on every layer has
    keys and values in front.
    """

    embeddings_TPD: Tensor | None = None
    keys_TLHPK: Tensor | None = None
    values_TLHPK: Tensor | None = None
    decoder_embeddings_TPD: Tensor | None = None
    """As many virtual tokens in front of a decoder's start, beside those of the encoder's row."""
    lengths_T: Tensor | None = None
    """How many of the P virtual tokens each prompt has, counted from the first; None: all."""
    first_layer: int = 0
    """The layer at whose input the prompts enter."""
    vote: Vote | None = None
    """If given, all T prompts score every row, and their results are combined this way."""
    attentions: tuple[str, ...] | None = None
    """The kinds of attention whose layers the keys and values are for, in the model's order; None: all."""
    row_rule: RowRule | None = None
    """If given, each row makes a prompt of its own from the T prompts of embeddings."""

    def __post_init__(self) -> None:
        assert (self.keys_TLHPK is None) == (self.values_TLHPK is None)
        assert self.embeddings_TPD is None or self.keys_TLHPK is None
        assert self.lengths_T is None or int(self.lengths_T.max()) == self._width

    @property
    def num_prompts(self) -> int:
        """How many prompts rows choose from: T, and 1 if there are none or rows make their own from all."""
        return 1 if self.row_rule else len(next(iter(self.tensors().values()), [None]))

    @property
    def num_virtual_tokens(self) -> tuple[int, ...]:
        """How many virtual tokens each prompt has."""
        if self.lengths_T is not None:
            return tuple(self.lengths_T.tolist())
        return (self._width,) * self.num_prompts

    @property
    def prefix_lengths(self) -> tuple[int, ...]:
        """Positions that each prompt's keys and values take in front of a row: 0 for embeddings."""
        return (0,) * self.num_prompts if self.keys_TLHPK is None else self.num_virtual_tokens

    @classmethod
    def concat(cls, banks: Sequence[PromptBank], *, vote: Vote | None = None) -> PromptBank:
        """Join banks of one form; their prompts may differ in length."""
        if any(bank.row_rule for bank in banks):
            raise ConfigError(
                "a prompt that looks at the row cannot be joined with others in an ensemble or as teachers: "
                "give runs of another method, such as prompt=prompt_tuning."
            )
        lengths = [length for bank in banks for length in bank.num_virtual_tokens]
        uneven = len(set(lengths)) > 1
        return cls(
            embeddings_TPD=_concat_padded([bank.embeddings_TPD for bank in banks], axis=1),
            keys_TLHPK=_concat_padded([bank.keys_TLHPK for bank in banks], axis=3),
            values_TLHPK=_concat_padded([bank.values_TLHPK for bank in banks], axis=3),
            decoder_embeddings_TPD=_concat_padded([bank.decoder_embeddings_TPD for bank in banks], axis=1),
            lengths_T=torch.tensor(lengths) if uneven else None,
            first_layer=_shared_layer(banks),
            vote=vote,
            attentions=_shared([bank.attentions for bank in banks]),
        )

    def member(self, prompt: int) -> PromptBank:
        """One of the prompts as a bank of its own; those that rows make their own from are one."""
        if self.row_rule is not None:
            assert prompt == 0
            return self
        length, own = self.num_virtual_tokens[prompt], slice(prompt, prompt + 1)
        return PromptBank(
            embeddings_TPD=None if self.embeddings_TPD is None else self.embeddings_TPD[own, :length],
            keys_TLHPK=None if self.keys_TLHPK is None else self.keys_TLHPK[own, :, :, :length],
            values_TLHPK=None if self.values_TLHPK is None else self.values_TLHPK[own, :, :, :length],
            decoder_embeddings_TPD=(
                None if self.decoder_embeddings_TPD is None else self.decoder_embeddings_TPD[own, :length]
            ),
            attentions=self.attentions,
            first_layer=self.first_layer,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors this bank holds, by field name."""
        fields = {
            "embeddings_TPD": self.embeddings_TPD,
            "keys_TLHPK": self.keys_TLHPK,
            "values_TLHPK": self.values_TLHPK,
            "decoder_embeddings_TPD": self.decoder_embeddings_TPD,
            "lengths_T": self.lengths_T,
            **({} if self.row_rule is None else self.row_rule.named()),
        }
        return {name: tensor for name, tensor in fields.items() if tensor is not None}

    def of_rows(self, words: Sequence[Tensor], row_B: Tensor) -> PromptBank:
        """A bank of B prompts, those of rows with these word embeddings [N, D] and numbers.

        Where words become virtual tokens, they stand behind the P of the prompt, padded to one length.
        """
        assert self.row_rule is not None
        assert self.embeddings_TPD is not None
        weights_BT = self.row_rule.weights(words, self.embeddings_TPD, row_B)
        own = replace(self, row_rule=None)._map(
            lambda tensor_TPD: torch.einsum("bt,tpd->bpd", weights_BT, tensor_TPD)
        )
        if self.row_rule.num_words == 0:
            return own
        assert own.embeddings_TPD is not None
        return replace(own, embeddings_TPD=torch.cat([own.embeddings_TPD, self.row_rule.words(words)], dim=1))

    def to(self, device: torch.device) -> PromptBank:
        """The same prompts on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def detach(self) -> PromptBank:
        """The same prompts as contiguous tensors without a graph."""
        return self._map(lambda tensor: tensor.detach().contiguous())

    @property
    def _width(self) -> int:
        width = 0 if self.embeddings_TPD is None else self.embeddings_TPD.shape[1]
        return width if self.keys_TLHPK is None else self.keys_TLHPK.shape[3]

    def _map(self, change: Callable[[Tensor], Tensor]) -> PromptBank:
        own = replace(self, row_rule=None).tensors()
        changed: dict[str, Any] = {name: change(tensor) for name, tensor in own.items()}
        return replace(self, row_rule=self.row_rule and self.row_rule.map(change), **changed)


def _shared_layer(banks: Sequence[PromptBank]) -> int:
    layers = sorted({bank.first_layer for bank in banks})
    if len(layers) > 1:
        raise ConfigError(
            f"prompts that enter at layers {layers} cannot run together: train or score each by itself."
        )
    return layers[0]


def _concat_padded(tensors: Sequence[Tensor | None], *, axis: int) -> Tensor | None:
    """Concatenate along the first axis; along `axis`, that of P, pad with zeros to the longest."""
    present = [tensor for tensor in tensors if tensor is not None]
    assert len(present) in (0, len(tensors)), "one bank holds either embeddings or keys and values"
    if not present:
        return None
    width = max(tensor.shape[axis] for tensor in present)
    padding = [(0, 0) * (tensor.dim() - 1 - axis) + (0, width - tensor.shape[axis]) for tensor in present]
    return torch.cat([pad(tensor, widths) for tensor, widths in zip(present, padding, strict=True)])


def _shared(attentions: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    if len(set(attentions)) > 1:
        raise ConfigError(
            "prompts with keys and values in different attentions cannot run together: train them one after "
            "another, or give all the same prompt.attentions."
        )
    return attentions[0]


@dataclass(frozen=True, kw_only=True)
class PaddedRows:
    """Rows padded on the left: ids [B, T], and a mask [B, T] that is False on padding.

    Padding has id 0; only the mask distinguishes it from token 0.
    """

    ids_BT: Tensor
    mask_BT: Tensor

    @classmethod
    def of(cls, rows: Sequence[Ids], *, width: int | None = None) -> PaddedRows:
        """Pad rows to `width` positions, or to the longest row."""
        longest = max(len(row) for row in rows)
        width = longest if width is None else width
        assert width >= longest
        ids = [(0,) * (width - len(row)) + tuple(row) for row in rows]
        mask = [(False,) * (width - len(row)) + (True,) * len(row) for row in rows]
        return cls(ids_BT=torch.tensor(ids), mask_BT=torch.tensor(mask))

    @property
    def width(self) -> int:
        """Positions of a row, padding included: T."""
        return self.ids_BT.shape[1]

    def select(self, row_R: Tensor) -> PaddedRows:
        """Some of the rows, at the same width."""
        return PaddedRows(ids_BT=self.ids_BT[row_R.cpu()], mask_BT=self.mask_BT[row_R.cpu()])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of token ids and the labels that they are scored with.

    In `rows`, `id >= 0` is a vocabulary token and `-1 - k` is virtual token k. `choices[b]` holds the
    label tokens of each class of row b; `target_B` is the index of the right class, -1 for a row
    without a label. `prompt_B` is the prompt of the bank that a row uses, `row_B` the row's index in its
    table. `padded` holds the same rows padded, for an engine that needs them so.
    """

    rows: tuple[Ids, ...]
    choices: tuple[Choices, ...]
    target_B: Tensor
    prompt_B: Tensor
    row_B: Tensor
    padded: PaddedRows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, in the given order."""
        index_R = torch.tensor(rows, dtype=torch.long, device=self.prompt_B.device)
        return Batch(
            rows=tuple(self.rows[row] for row in rows),
            choices=tuple(self.choices[row] for row in rows),
            target_B=self.target_B[index_R],
            prompt_B=self.prompt_B[index_R],
            row_B=self.row_B[index_R],
            padded=None if self.padded is None else self.padded.select(index_R),
        )

    @property
    def target_choices(self) -> tuple[Choices, ...]:
        """Each row's right label, as its only choice."""
        targets = self.target_B.tolist()
        assert min(targets) >= 0, "an unlabelled row has no target"
        return tuple((choices[target],) for choices, target in zip(self.choices, targets, strict=True))

    def repeat_for_members(self, count: int) -> Batch:
        """Each row `count` times in a row, once for each of the first `count` prompts."""
        repeated = self.select([row for row in range(len(self)) for _ in range(count)])
        own_prompts = torch.arange(count, device=self.prompt_B.device).repeat(len(self))
        return replace(repeated, prompt_B=own_prompts)

    @classmethod
    def concat(cls, batches: Sequence[Batch]) -> Batch:
        """The rows of several batches as one."""
        rows = tuple(row for batch in batches for row in batch.rows)
        widths = [batch.padded.width for batch in batches if batch.padded is not None]
        return cls(
            rows=rows,
            choices=tuple(choices for batch in batches for choices in batch.choices),
            target_B=torch.cat([batch.target_B for batch in batches]),
            prompt_B=torch.cat([batch.prompt_B for batch in batches]),
            row_B=torch.cat([batch.row_B for batch in batches]),
            padded=PaddedRows.of(rows, width=max(widths)) if widths else None,
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on another device; Lightning calls this.

        Rows, padded or not, stay on the CPU: each engine builds its own input from them.
        """
        return replace(
            self,
            target_B=self.target_B.to(device, non_blocking=non_blocking),
            prompt_B=self.prompt_B.to(device, non_blocking=non_blocking),
            row_B=self.row_B.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, kw_only=True)
class OwnLabels:
    """The labels inside a prompt, each after the virtual tokens before it, and their losses' weights."""

    batch: Batch
    weight_B: Tensor


class SoftPrompt(nn.Module, ABC):
    """A soft-prompt method: trainable parameters that make a bank of prompts.

    `in_layers` tells the form of the bank. False: embeddings, which a layout may place anywhere in a
    row. True: keys and values, which can only come in front of it. `in_front` says that embeddings, too,
    belong there, `in_one_slot` that nothing stands between them. A prompt that is made of labelled rows may
    have a loss on its `own_labels`.
    """

    in_layers: bool = False
    in_front: bool = False
    in_one_slot: bool = False
    own_labels: OwnLabels | None = None

    @abstractmethod
    def forward(self) -> PromptBank:
        """The current prompts, with gradients to this module's parameters."""

    def after_update(self) -> None:
        """Change the parameters after each update of the optimizer, as a projection does; by default not."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters in the form an optimizer takes; a group may set its own learning rate."""
        return [{"params": list(self.parameters())}]

    def extra_state(self) -> dict[str, Tensor]:
        """Tensors saved with the bank for later runs to start from; none for most methods."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A training row and its label, as tokens: without virtual tokens, or those that start every text."""

    ids: Ids
    is_text: tuple[bool, ...]
    """For each of `ids`, whether it is the row's own text, not the template's words."""
    label: Ids


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """What a method may know of its task's training rows, if it names `rows` among its arguments."""

    demonstrations: tuple[Demonstration, ...]
    """In the order of the table."""
    gradients: Callable[[Tensor], Tensor]
    """The gradient of each row's loss with regard to embeddings [P, D], which take the place of the layout's
    only slot, however many they are: [B, P, D]."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How text is generated after a row: greedily, by beam search or, at a temperature, by sampling.

    The numbers mean what they mean in transformers' `generate`.

    Raises:
        ConfigError: a number out of range, or beams together with a temperature.
    """

    max_new_tokens: int
    """The longest text, its end token included."""
    num_beams: int
    """1: no beam search."""
    length_penalty: float
    """Beams are compared by log-likelihood divided by length to this power."""
    early_stopping: bool | Literal["never"]
    """Whether a row ends when it has `num_beams` texts; False: when no beam is likely to become better;
    "never": when none can."""
    temperature: float
    """Logits are divided by it before sampling; 0: the most likely token, without sampling."""
    top_k: int | None
    """Sample among this many most likely tokens; None: among all."""
    top_p: float | None
    """Sample among the most likely tokens that have this probability together; None: among all."""
    seed: int
    """With a row's number, what its samples depend on: not on the rows beside it."""
    stop: tuple[str, ...]
    """Strings after which a text ends, besides the model's own end tokens."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", tuple(self.stop))
        limits: dict[str, tuple[bool, str]] = {
            "max_new_tokens": (self.max_new_tokens >= 1, "1 or more"),
            "num_beams": (self.num_beams >= 1, "1 or more"),
            "temperature": (self.temperature >= 0, "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more, or null"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1, or null"),
            "early_stopping": (self.early_stopping in (True, False, "never"), "true, false or never"),
            "stop": (all(self.stop), "strings that are not empty"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                raise ConfigError(f"decoding.{name} is {getattr(self, name)!r}; give {expected}.")
        if self.num_beams > 1 and self.temperature > 0:
            raise ConfigError(
                f"decoding has {self.num_beams} beams and temperature {self.temperature:g}; beams are not "
                "sampled. Set decoding.num_beams=1 or decoding.temperature=0."
            )
