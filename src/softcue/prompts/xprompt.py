"""XPrompt (Ma et al. 2022, arXiv 2210.04457, section 3): a trained prompt pruned, rewound and trained again.

The importance of a token is the mean over training rows of |dL/dγ|, where γ = 1 multiplies the token;
tokens of low importance are dropped. Each token that is kept is then cut into `num_pieces` equal pieces,
whose importance is measured in the same way with the shorter prompt; pieces of low importance become zero.
What is left starts from its trained values and is trained again (rewinding, section 3.3).

It differs from the paper in that the layout says how many tokens are kept, and `kept_pieces` which share of
pieces; the paper tries shares from 10 to 90 percent of both.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt, TrainingRows
from softcue.errors import ConfigError
from softcue.prompts.saved_prompt import expect_start, read_prompt


class XPrompt(SoftPrompt):
    """The numbers of the k pieces that are kept, of n a token: k D / n parameters.

    Raises:
        ConfigError: a source without embeddings or with fewer tokens than the layout, or a hidden size that
            cannot be cut into so many pieces.
        RunError: no source.
    """

    in_one_slot = True
    is_kept_PD: Tensor

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        rows: TrainingRows,
        source: str,
        member: int | None,
        num_pieces: int,
        kept_pieces: float,
    ) -> None:
        super().__init__()
        if spec.hidden_size % num_pieces:
            raise ConfigError(
                f"prompt.method.num_pieces is {num_pieces}, and {spec.name}'s {spec.hidden_size} numbers a "
                "token cannot be cut into so many equal pieces; choose a divisor."
            )
        trained_SD = _embeddings(source, spec=spec, member=member)
        if len(trained_SD) < num_virtual_tokens:
            raise ConfigError(
                f"prompt.source={source} has {len(trained_SD)} virtual tokens, fewer than the "
                f"{num_virtual_tokens} that prompt.layout keeps; keep fewer."
            )
        importance_S1 = importance(trained_SD, rows.gradients(trained_SD), num_pieces=1)
        start_PD = trained_SD[kept(importance_S1[:, 0], num_virtual_tokens)]
        importance_Pk = importance(start_PD, rows.gradients(start_PD), num_pieces=num_pieces)
        count = max(1, round(kept_pieces * importance_Pk.numel()))
        is_kept_n = torch.zeros(importance_Pk.numel(), dtype=torch.bool)
        is_kept_n[kept(importance_Pk.flatten(), count)] = True
        is_kept_Pk = is_kept_n.view_as(importance_Pk)
        self.register_buffer(
            "is_kept_PD", is_kept_Pk.repeat_interleave(spec.hidden_size // num_pieces, dim=1)
        )
        self.numbers_n = nn.Parameter(start_PD[self.is_kept_PD])

    def forward(self) -> PromptBank:
        zeros_PD = self.numbers_n.new_zeros(self.is_kept_PD.shape)
        return PromptBank(embeddings_TPD=zeros_PD.masked_scatter(self.is_kept_PD, self.numbers_n)[None])


def importance(vectors_PD: Tensor, gradient_BPD: Tensor, *, num_pieces: int) -> Tensor:
    """The mean over rows of |dL/dγ| for a gate γ = 1 on each of k pieces of each token: [P, k]."""
    by_gate_BPk = (gradient_BPD * vectors_PD).unflatten(2, (num_pieces, -1)).sum(dim=3)
    importance_Pk: Tensor = by_gate_BPk.abs().mean(dim=0)
    return importance_Pk


def kept(importance_n: Tensor, count: int) -> Tensor:
    """Where the `count` highest are, in their own order; the first of equals."""
    return importance_n.argsort(descending=True, stable=True)[:count].sort().values


def _embeddings(source: str, *, spec: BackboneSpec, member: int | None) -> Tensor:
    bank, _ = read_prompt(source, spec=spec, member=member, key="prompt.source")
    expect_start(bank, f"prompt.source={source}")
    if bank.embeddings_TPD is None:
        raise ConfigError(
            f"prompt.source={source} holds keys and values, and prompt=xprompt prunes embeddings; give a run "
            "of prompt=prompt_tuning or another method of embeddings."
        )
    return bank.embeddings_TPD[0]
