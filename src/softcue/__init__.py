"""softcue: train, sweep, compare and export soft prompts for frozen language models.

`softcue.train(method, data, backbone=...)` trains a prompt; `softcue.load(folder)` reads a trained one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from softcue.version import __version__

if TYPE_CHECKING:
    from softcue.api import TrainedPrompt, load, train
    from softcue.trained import Prediction, tasks_of

__all__ = ["Prediction", "TrainedPrompt", "__version__", "load", "tasks_of", "train"]


def __getattr__(name: str) -> Any:
    # Reports import this package too, and need no torch.
    if name in __all__:
        room = "softcue.trained" if name in ("Prediction", "tasks_of") else "softcue.api"
        return getattr(import_module(room), name)
    raise AttributeError(f"module 'softcue' has no attribute {name!r}")
