"""Weights by which a row's own words mix the prompts of a bank into one: prompts that look at the row.

Letters as in contracts.py; M: units of a hidden layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, one_hot, relu, silu

Kind = Literal["top_1", "attention", "bottleneck"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PREFIX = "mixer_"
"""In front of a mixer's tensors among those of its bank."""
AXES: Mapping[Kind, Mapping[str, str]] = {
    "top_1": {"router_DT": "DT"},
    "attention": {"down_DM": "DM", "up_MD": "MD", "scale_D": "D", "shift_D": "D"},
    "bottleneck": {"down_DM": "DM", "bias_M": "M"},
}
"""The tensors of each kind, and their axes."""
NOISE = "noise_RT"
"""Beside the router while it trains: relative noise of its outputs, for R rows, then again from the first."""


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """How a row's features weigh a bank's T prompts.

    `top_1`: the most likely prompt, times its probability under a linear router. `attention`: the last
    prompt, and all of them by a softmax. `bottleneck`: the T - 1 units of a hidden layer, and 1 for the last.
    Features are the words' embeddings, their mean or (`attention`) their maximum, normalised as by a layer
    norm without parameters.
    """

    kind: Kind
    tensors: Mapping[str, Tensor]

    @classmethod
    def of(cls, kind: Kind, named: Mapping[str, Tensor]) -> Mixer:
        """The mixer among the tensors of a bank."""
        own = {name: tensor for name, tensor in named.items() if name.startswith(PREFIX)}
        return cls(kind=kind, tensors={name.removeprefix(PREFIX): tensor for name, tensor in own.items()})

    def named(self) -> dict[str, Tensor]:
        """Its tensors, by their names among those of a bank."""
        return {f"{PREFIX}{name}": tensor for name, tensor in self.tensors.items()}

    def map(self, change: Callable[[Tensor], Tensor]) -> Mixer:
        """The same mixer with changed tensors."""
        return Mixer(kind=self.kind, tensors={name: change(tensor) for name, tensor in self.tensors.items()})

    def features(self, words: Sequence[Tensor]) -> Tensor:
        """Of each row's word embeddings [N, D]: [B, D]; zeros for a row without words."""
        pool = torch.amax if self.kind == "attention" else torch.mean
        pooled = [pool(row, dim=0) if len(row) else row.new_zeros(row.shape[1]) for row in words]
        return layer_norm(torch.stack(pooled), pooled[0].shape)

    def weights(self, features_BD: Tensor, prompts_TPD: Tensor, row_B: Tensor) -> Tensor:
        """The weight of each prompt in each row's own: [B, T]. `row_B` numbers the rows, for their noise."""
        given = self.tensors
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


TEMPERATURE = 1.0
"""Of attention: queries are normalised, and keys are as small as embeddings."""


def wrong_shapes(
    kind: Kind, shapes: Mapping[str, tuple[int, ...]], *, prompts: int, width: int
) -> str | None:
    """What does not fit among a mixer's tensors in a file; None: nothing. `width` is D."""
    axes = AXES[kind]
    if shapes.keys() != axes.keys():
        return f"a mixer {kind} of {sorted(shapes)}; it has {sorted(axes)}"
    hidden = {shape[axes[name].index("M")] for name, shape in shapes.items() if "M" in axes[name]}
    sizes = {"D": width, "T": prompts, "M": min(hidden, default=0)}
    for name, shape in shapes.items():
        wanted = tuple(sizes[axis] for axis in axes[name])
        if shape != wanted:
            return f"{name} of shape {shape}, not {wanted}"
    if kind == "bottleneck" and prompts != sizes["M"] + 1:
        return f"{prompts} prompts for {sizes['M']} hidden units"
    return None
