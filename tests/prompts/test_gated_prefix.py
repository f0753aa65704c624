"""Gated prefixes: the gate in the values equals a gate on what the prefix contributes to attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.contracts import PromptBank
from softcue.prompts.gated_prefix import GatedPrefix
from tests.prompts.formulas import BATCH, TOKENS, count, expect_formula, make
from tests.tiny import score_classes

GATED = "prompt=prefix_tuning_gated"


def formula(of: Mapping[str, Tensor]) -> PromptBank:
    gates = [[torch.tanh(gate) for gate in gates_H] for gates_H in of["gate_LH"]]
    values_LHPK = torch.stack(
        [
            torch.stack([gate * values_PK for gate, values_PK in zip(gates_H, values_HPK, strict=True)])
            for gates_H, values_HPK in zip(gates, of["values_LHPK"], strict=True)
        ]
    )
    return PromptBank(keys_TLHPK=of["keys_LHPK"][None], values_TLHPK=values_LHPK[None])


def test_prompt_and_gradients_are_those_of_gated_values(llama: StreamLM) -> None:
    prompt = make(llama, GATED)
    expect_formula(llama, prompt, formula)
    spec = llama.spec
    assert count(prompt) == TOKENS * spec.key_value_width + spec.num_layers * spec.num_kv_heads


def test_a_gate_in_the_values_scales_what_the_prefix_contributes() -> None:
    """One head by hand: softmax over prefix and row, the prefix's share of the output times tanh(g)."""
    torch.manual_seed(0)
    query_K, keys_PK, values_PK = torch.randn(8), torch.randn(3, 8), torch.randn(3, 8)
    row_keys_RK, row_values_RK, gate = torch.randn(5, 8), torch.randn(5, 8), torch.tensor(0.4).tanh()
    weights = torch.softmax(torch.cat([keys_PK, row_keys_RK]) @ query_K, dim=0)
    folded_K = weights @ torch.cat([gate * values_PK, row_values_RK])
    contributed_K = gate * (weights[:3] @ values_PK) + weights[3:] @ row_values_RK
    torch.testing.assert_close(folded_K, contributed_K)


def test_at_zero_gates_the_prefix_is_a_sink_of_zero_values_and_only_gates_learn(llama: StreamLM) -> None:
    prompt = make(llama, GATED)
    assert isinstance(prompt, GatedPrefix)
    sink = PromptBank(
        keys_TLHPK=prompt.keys_LHPK[None], values_TLHPK=torch.zeros_like(prompt.values_LHPK)[None]
    )
    scores = score_classes(llama, prompt(), BATCH).log_likelihood_BC
    with torch.no_grad():
        sunk = score_classes(llama, sink, BATCH).log_likelihood_BC
    torch.testing.assert_close(scores, sunk, rtol=0, atol=1e-5)
    scores.sum().backward()
    assert prompt.values_LHPK.grad is not None
    assert not prompt.values_LHPK.grad.any()
    assert prompt.gate_LH.grad is not None
    assert prompt.gate_LH.grad.all()
