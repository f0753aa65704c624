"""How a row's own words make its prompt of those in a bank: prompts that look at the row.

Letters as in contracts.py; M: units of a hidden layer; S: words with an offset; R: rank.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot, relu, silu
from torch.nn.utils.rnn import pad_sequence

Kind = Literal["top_1", "attention", "bottleneck", "offsets"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIX = "row_"
"""In front of a rule's tensors among those of its bank."""
AXES: Mapping[Kind, Mapping[str, str]] = {
    "top_1": {"router_DT": "DT"},
    "attention": {"down_DM": "DM", "up_MD": "MD", "scale_D": "D", "shift_D": "D"},
    "bottleneck": {"down_DM": "DM", "bias_M": "M"},
    "offsets": {"left_SR": "SR", "right_RD": "RD"},
}
"""The tensors of each kind, and their axes."""
NOISE = "noise_RT"
"""Beside the router while it trains: relative noise of its outputs, for R rows, then again from the first."""
TEMPERATURE = 1.0
"""Of attention: queries are normalised, and keys are as small as embeddings."""


@dataclass(frozen=True, kw_only=True)
class RowRule:
    """What a row does with a bank's T prompts.

    Three kinds weigh and add them. `top_1`: the most likely prompt, times its probability under a linear
    router. `attention`: the last prompt, and all of them by a softmax. `bottleneck`: the T - 1 units of a
    hidden layer, and 1 for the last. Their features are the words' embeddings, the mean or (`attention`) the
    maximum, normalised as by a layer norm without parameters.

    `offsets`: the only prompt, and behind it the row's first S words as virtual tokens, each word's embedding
    and the offset of its place among the row's words.
    """

    kind: Kind
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, kind: Kind, named: Mapping[str, Tensor]) -> RowRule:
        """The rule among the tensors of a bank."""
        own = {name: tensor for name, tensor in named.items() if name.startswith(PREFIX)}
        return cls(kind=kind, tensors={name.removeprefix(PREFIX): tensor for name, tensor in own.items()})

    def named(self) -> dict[str, Tensor]:
        """Its tensors, by their names among those of a bank."""
        return {f"{PREFIX}{name}": tensor for name, tensor in self.tensors.items()}

    def map(self, change: Callable[[Tensor], Tensor]) -> RowRule:
        """The same rule with changed tensors."""
        changed = {name: change(tensor) for name, tensor in self.tensors.items()}
        return RowRule(kind=self.kind, tensors=changed)

    @property
    def num_words(self) -> int:
        """Words of a row, from its first, that become virtual tokens behind those of the prompt: S or 0."""
        return len(self.tensors["left_SR"]) if self.kind == "offsets" else 0

    def words(self, words: Sequence[Tensor]) -> Tensor:
        """The virtual tokens that rows' first words become, from their embeddings [N, D]: [B, S', D]."""
        offset_SD = self.tensors["left_SR"] @ self.tensors["right_RD"]
        first = [row[: self.num_words].to(offset_SD) for row in words]
        return pad_sequence([row + offset_SD[: len(row)] for row in first], batch_first=True)

    def weights(self, words: Sequence[Tensor], prompts_TPD: Tensor, row_B: Tensor) -> Tensor:
        """The weight of each prompt in rows' own [B, T], from their words' embeddings [N, D].

        `row_B` numbers the rows, for their noise.
        """
        if self.kind == "offsets":
            return prompts_TPD.new_ones(len(words), 1)
        features_BD, given = self._features(words).to(prompts_TPD), self.tensors
        if self.kind == "top_1":
            logits_BT = features_BD @ given["router_DT"]
            if NOISE in given:
                noise_BT = given[NOISE][row_B % len(given[NOISE])]
                logits_BT = logits_BT + noise_BT * logits_BT.detach()
            probability_BT = logits_BT.softmax(dim=1)
            return probability_BT * one_hot(probability_BT.argmax(dim=1), len(prompts_TPD))
        if self.kind == "bottleneck":
            hidden_BM = relu(features_BD @ given["down_DM"] + given["bias_M"])
            return torch.cat([hidden_BM, hidden_BM.new_ones(len(hidden_BM), 1)], dim=1)
        hidden_BD = silu(features_BD @ given["down_DM"]) @ given["up_MD"]
        query_BD = layer_norm(hidden_BD, hidden_BD.shape[1:], given["scale_D"], given["shift_D"])
        scores_BT = query_BD @ prompts_TPD.amax(dim=1).T / TEMPERATURE
        last_T = one_hot(torch.tensor(len(prompts_TPD) - 1), len(prompts_TPD)).to(scores_BT)
        return scores_BT.softmax(dim=1) + last_T

    def _features(self, words: Sequence[Tensor]) -> Tensor:
        """Of each row's word embeddings [N, D]: [B, D]; zeros for a row without words."""
        pool = torch.amax if self.kind == "attention" else torch.mean
        pooled = [pool(row, dim=0) if len(row) else row.new_zeros(row.shape[1]) for row in words]
        return layer_norm(torch.stack(pooled), pooled[0].shape)


def wrong_shapes(
    kind: Kind, shapes: Mapping[str, tuple[int, ...]], *, prompts: int, width: int
) -> str | None:
    """What does not fit among a rule's tensors in a file; None: nothing. `width` is D."""
    axes = AXES[kind]
    if shapes.keys() != axes.keys():
        return f"a row_rule {kind} of {sorted(shapes)}; it has {sorted(axes)}"
    sizes = {"D": width, "T": prompts}
    for name, shape in shapes.items():
        if len(shape) != len(axes[name]):
            return f"{name} of shape {shape}, not of {len(axes[name])} axes"
        # The sizes of hidden layers and ranks are those of the first tensor that has them.
        wanted = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes[name], shape, strict=True))
        if shape != wanted:
            return f"{name} of shape {shape}, not {wanted}"
    needed = {"bottleneck": sizes.get("M", 0) + 1, "offsets": 1}.get(kind, prompts)
    if prompts != needed:
        return f"{prompts} prompts and a row_rule {kind} for {needed}"
    return None
