"""One run before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from softcue.data.run_data import ON_REQUEST, PARTS, Part, RunData
from softcue.runs.store import RunFolder


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run before it starts; `plan.prepare` makes it.

    `settings` is what its record keeps: all of them resolved, the machine's choices filled in. `config`
    has the same settings, for `build` to make objects of. `asked` are the parts to score on request.
    """

    method: str
    backbone: str
    dtype: str
    seed: int
    threads: int | None
    asked: tuple[Part, ...]
    dry: bool
    show: bool
    folder: RunFolder
    data: RunData
    settings: dict[str, Any]
    config: DictConfig

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts to score: those that have rows, some only on request."""
        wanted = [part for part in PARTS if part not in ON_REQUEST or part in self.asked]
        return tuple(part for part in wanted if self.data.ids(part))
