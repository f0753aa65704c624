"""softcue: train, sweep, compare and ship soft prompts for frozen language models."""

__version__ = "0.1.0"
