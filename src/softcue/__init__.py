"""softcue: train, sweep, compare and ship soft prompts for frozen language models.

`softcue.load(folder)` reads a finished prompt back, ready to predict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from softcue.trained import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Reports import this package too, and need no torch.
    if name == "load":
        from softcue.trained import load

        return load
    raise AttributeError(f"module 'softcue' has no attribute {name!r}")
