"""softcue: train, sweep, compare and export soft prompts for frozen language models.

`softcue.train(method, data, backbone=...)` trains a prompt; `softcue.load(folder)` reads a trained one;
`softcue.compare(runs)` says which method is ahead.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from softcue.version import __version__

if TYPE_CHECKING:
    from softcue.api import TrainedPrompt, load, train
    from softcue.report.python import compare
    from softcue.trained import Prediction, tasks_of

__all__ = ["Prediction", "TrainedPrompt", "__version__", "compare", "load", "tasks_of", "train"]

_ROOMS = {"Prediction": "trained", "tasks_of": "trained", "compare": "report.python"}
"""Where names are defined that are not in softcue.api."""


def __getattr__(name: str) -> Any:
    # Reports import this package too, and need no torch.
    if name in __all__:
        return getattr(import_module(f"softcue.{_ROOMS.get(name, 'api')}"), name)
    raise AttributeError(f"module 'softcue' has no attribute {name!r}")
