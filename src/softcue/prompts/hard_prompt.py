"""The hand-written prompt alone: the template's words, and nothing trained."""

from __future__ import annotations

from softcue.contracts import PromptBank, SoftPrompt


class HardPrompt(SoftPrompt):
    """No virtual tokens and no parameters: the zero-shot baseline of every comparison."""

    def forward(self) -> PromptBank:
        return PromptBank()
