"""Ensembles of finished prompts (Lester et al. 2021, section 6): one frozen model, M opinions of a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from torch import Generator

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt, Vote
from softcue.errors import ConfigError
from softcue.formats.prompt_file import load_bank

SHARED = ("backbone", "layout", "task", "template", "verbalizer")
"""What members must agree on, since they read the same rows."""


class Ensemble(SoftPrompt):
    """The prompts of finished runs, which judge every row together, in one pass; nothing is trained.

    Raises:
        ConfigError: members of different backbones, rows or forms, or an unknown vote.
    """

    def __init__(
        self,
        *,
        spec: BackboneSpec,
        num_virtual_tokens: int,
        generator: Generator,
        runs: Sequence[str],
        vote: Vote,
    ) -> None:
        super().__init__()
        if vote not in get_args(Vote):
            raise ConfigError(f"prompt.vote is {vote!r}; choose {' or '.join(get_args(Vote))}.")
        if len(runs) < 2:
            raise ConfigError(f"prompt.runs is {list(runs)}; an ensemble has two members at least.")
        members = [load_bank(Path(run) / "prompt.safetensors") for run in runs]
        first = members[0][1]
        for run, (bank, metadata) in zip(runs, members, strict=True):
            for key in SHARED:
                if metadata[key] != first[key]:
                    raise ConfigError(
                        f"prompt.runs: {run} has {key} {metadata[key]!r} and {runs[0]} has {first[key]!r}; "
                        "members of an ensemble share it."
                    )
            if bank.num_virtual_tokens != (num_virtual_tokens,) or metadata["backbone"] != spec.name:
                raise ConfigError(
                    f"prompt.runs: {run} was trained on {metadata['backbone']} with layout "
                    f"{metadata['layout']!r}, and this run has {spec.name} and {num_virtual_tokens} virtual "
                    f"tokens; set backbone={metadata['backbone']} and prompt.layout to the members' own."
                )
        banks = [bank for bank, _ in members]
        if len({bank.keys_TLHPK is None for bank in banks}) > 1:
            raise ConfigError(
                "prompt.runs mixes prompts of embeddings with prefixes of keys and values; "
                "make an ensemble of each."
            )
        self.bank = PromptBank.concat(banks, vote=vote)
        # Keys and values stand in front; embeddings wherever the layout puts them.
        self.in_layers = banks[0].keys_TLHPK is not None

    def forward(self) -> PromptBank:
        return self.bank
