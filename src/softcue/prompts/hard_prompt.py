"""The hand-written prompt alone: nothing is learnt, the template's words do the work."""

from __future__ import annotations

from softcue.contracts import PromptBank, SoftPrompt


class HardPrompt(SoftPrompt):
    """No virtual tokens and no parameters: the zero-shot reference of every comparison."""

    def forward(self) -> PromptBank:
        return PromptBank()
