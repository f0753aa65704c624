"""softcue: train, sweep, compare and export soft prompts for frozen language models.

`softcue.load(folder)` reads a trained prompt, ready to predict.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softcue.trained import Prediction, TrainedPrompt, load, tasks_of

__version__ = "0.1.0"

__all__ = ["Prediction", "TrainedPrompt", "load", "tasks_of"]


def __getattr__(name: str) -> Any:
    # Reports import this package too, and need no torch.
    if name in __all__:
        return getattr(import_module("softcue.trained"), name)
    raise AttributeError(f"module 'softcue' has no attribute {name!r}")
