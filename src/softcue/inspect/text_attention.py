"""The attention that text gives a prompt's virtual tokens, and the text's own keys and values.

L layers, P virtual tokens, T tokens of a row, N text tokens of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from softcue.backbone.base import Backbone
from softcue.contracts import Ids, PromptBank


@dataclass(frozen=True, kw_only=True)
class TextView:
    """Attention and norms over rows of text that use one prompt."""

    attention_LP: Tensor
    """The share of its attention that a text token gives each virtual token: the mean over heads and over
    the text tokens that follow it in any row. NaN if none does."""
    key_norm_LN: Tensor
    value_norm_LN: Tensor


def watch_text(lm: Backbone, bank: PromptBank, rows: Sequence[Sequence[int]]) -> TextView:
    """Run rows of ids, which include virtual tokens, with a bank of one prompt, or of one for each row."""
    bank = bank.to(lm.device)
    views = [_watch_row(lm, bank, tuple(ids)) for ids in rows]
    num_readers_P = torch.stack([num_readers_P for num_readers_P, _ in views]).sum(0)
    return TextView(
        attention_LP=torch.stack([view.attention_LP for _, view in views]).sum(0) / num_readers_P,
        key_norm_LN=torch.cat([view.key_norm_LN for _, view in views], dim=1),
        value_norm_LN=torch.cat([view.value_norm_LN for _, view in views], dim=1),
    )


def _watch_row(lm: Backbone, bank: PromptBank, ids: Ids) -> tuple[Tensor, TextView]:
    """The number of text tokens after each virtual token [P], and the view with summed attention."""
    ahead = bank.prefix_lengths[0]
    ids_T = torch.tensor(ids[ahead:])
    is_text_T = ids_T >= 0
    # Virtual tokens are numbered in the order of the row.
    virtual_P = torch.arange(ahead) if ahead else (~is_text_T).nonzero().squeeze(1)
    text_N = ahead + is_text_T.nonzero().squeeze(1)
    follows_TP = ahead + torch.arange(len(ids_T))[:, None] > virtual_P
    # In an encoder every token sees all others.
    reads_TP = is_text_T[:, None] & (follows_TP | lm.spec.targets_apart)
    attention: list[Tensor] = []
    key_norms: list[Tensor] = []
    value_norms: list[Tensor] = []

    def hook(probability_SHTK: Tensor, keys_SKHK: Tensor, values_SKHK: Tensor) -> None:
        given_TP = probability_SHTK[0].mean(dim=0).cpu()[:, virtual_P]
        attention.append((given_TP * reads_TP).sum(dim=0))
        key_norms.append(keys_SKHK[0].flatten(1).norm(dim=1).cpu()[text_N])
        value_norms.append(values_SKHK[0].flatten(1).norm(dim=1).cpu()[text_N])

    own, (row,) = lm.own_prompts(bank, [ids[ahead:]])
    lm.run_with_hook(row, own, hook)
    return reads_TP.sum(dim=0), TextView(
        attention_LP=torch.stack(attention),
        key_norm_LN=torch.stack(key_norms),
        value_norm_LN=torch.stack(value_norms),
    )
