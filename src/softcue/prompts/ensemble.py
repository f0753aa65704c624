"""Ensembles of trained prompts (Lester et al. 2021, arXiv 2104.08691, section 6).

One frozen model, M predictions for a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from torch import Generator

from softcue.contracts import BackboneSpec, PromptBank, SoftPrompt, Vote
from softcue.errors import ConfigError
from softcue.formats.prompt_file import PROMPT, open_prompt
from softcue.prompts.saved_prompt import expect_fits

SHARED = ("backbone", "layout", "task", "template", "verbalizer")
"""Metadata that members must have in common, since they read the same rows."""


class Ensemble(SoftPrompt):
    """The prompts of complete runs, which predict every row together, in one pass; nothing is trained.

    Raises:
        ConfigError: members of different backbones, rows or forms, or an unknown vote.
        RunError: a run without a prompt, or with a damaged one.
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
        members = [open_prompt(Path(run) / PROMPT) for run in runs]
        first = members[0].metadata
        for run, member in zip(runs, members, strict=True):
            for key in SHARED:
                if member.metadata.get(key) != first.get(key):
                    raise ConfigError(
                        f"prompt.runs: {run} has {key} {member.metadata.get(key)!r} and {runs[0]} has "
                        f"{first.get(key)!r}; members of an ensemble share it."
                    )
            count, length = member.shape.num_prompts, member.shape.num_tokens
            if (count, length, member.made_for) != (1, num_virtual_tokens, spec.name):
                raise ConfigError(
                    f"prompt.runs: {run} holds {count} prompts of {length} virtual tokens, trained on "
                    f"{member.made_for} with layout {member.layout!r}, and this run has {spec.name} and "
                    f"{num_virtual_tokens} virtual tokens; give runs of one prompt each, their backbone and "
                    "their prompt.layout."
                )
            expect_fits(member, spec, f"prompt.runs: {run}")
        # Keys and values are in front of a row; embeddings wherever the layout puts them.
        self.in_layers = members[0].shape.form == "keys and values"
        if len({member.shape.form for member in members}) > 1:
            raise ConfigError(
                "prompt.runs mixes prompts of embeddings with prefixes of keys and values; "
                "make an ensemble of each."
            )
        self.bank = PromptBank.concat([member.bank() for member in members], vote=vote)

    def forward(self) -> PromptBank:
        return self.bank
