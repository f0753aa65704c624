"""Prompt encoders in a checkpoint of a whole PEFT model, run once: their output is what the model sees.

PEFT's own `save_pretrained` has always folded them away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@torch.no_grad()
def encode(table_PE: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """Run the encoder's input through the encoder whose parameters `parts` holds, by PEFT's names.

    `lstm_head` then `mlp_head` are P-tuning's, `transform` is projected prefix tuning's; with none of
    them the table is the prompt.

    Raises:
        KeyError, RuntimeError: parameters missing, or of shapes that do not fit together.
    """
    if any(name.startswith("lstm_head.") for name in parts):
        table_PE = _lstm(table_PE, parts)
    table_PE = _linear_layers(table_PE, parts, name="mlp_head", activation=torch.relu)
    return _linear_layers(table_PE, parts, name="transform", activation=torch.tanh)


def _lstm(table_PE: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    weights = {
        name.removeprefix("lstm_head."): t for name, t in parts.items() if name.startswith("lstm_head.")
    }
    lstm = nn.LSTM(
        input_size=table_PE.shape[1],
        hidden_size=weights["weight_hh_l0"].shape[1],
        num_layers=sum(name.startswith("weight_hh_l") and not name.endswith("_reverse") for name in weights),
        bidirectional=True,
        # The weights' own sizes decide what is allocated, not those that a parameter's name suggests.
        device="meta",
    )
    lstm.load_state_dict(weights, assign=True)
    states_PE: Tensor = lstm(table_PE)[0]
    return states_PE


def _linear_layers(
    table_PE: Tensor, parts: Mapping[str, Tensor], *, name: str, activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Run the linear layers of a `Sequential` in order of their numbers, `activation` between them."""
    numbers = sorted({int(part.split(".")[1]) for part in parts if part.startswith(f"{name}.")})
    for number in numbers:
        table_PE = linear(table_PE, parts[f"{name}.{number}.weight"], parts[f"{name}.{number}.bias"])
        table_PE = table_PE if number == numbers[-1] else activation(table_PE)
    return table_PE
