"""Lightning's checkpoints as whole files that end in a digest."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from softcue.runs.atomic import write_atomic
from softcue.runs.sealed import read_sealed, sealed


class SealedCheckpoints(TorchCheckpointIO):
    """Replaces an earlier file in one step, and refuses a file that is not what was written.

    Lightning itself moves the file from a temporary folder, which between two disks is a copy that can be
    interrupted, and reads "::" in a path as a chain of file systems.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write the state; RunError if that is impossible."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_atomic(Path(path), sealed(content.getvalue()))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read the state; RunError if it is damaged."""
        return read_checkpoint(Path(path), map_location=map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file, if it is there."""
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """The state in a checkpoint of ours.

    Raises:
        RunError: no such file, or not exactly what was written.
    """
    content = io.BytesIO(read_sealed(path))
    state: dict[str, Any] = torch.load(content, weights_only=True, map_location=map_location)
    return state
