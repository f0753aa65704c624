"""`softcue-watch`: a live view of the sweep in a folder, until the sweep has ended."""

from __future__ import annotations

import io
import shutil
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console, RenderableType
from rich.live import Live

from softcue.cli import hydra_app
from softcue.errors import ConfigError, RunError
from softcue.runs.metrics import metric_named
from softcue.sweep.state import SweepFolder, SweepSnapshot
from softcue.sweep.view import view

IDLE_S = 10.0
"""Seconds without a change after which a sweep whose jobs have all ended counts as ended.

Between two rounds of a search, or before failed jobs are run again, all jobs have ended as well.
"""


PARTS = ("train", "validation", "test")


@hydra_app("watch")
def main(settings: DictConfig) -> None:
    """Show the state of the sweep in a folder."""
    if settings.refresh_s <= 0:
        raise ConfigError(f"refresh_s is {settings.refresh_s}; give seconds above 0.")
    if settings.part not in PARTS:
        raise ConfigError(f"part is {settings.part!r}; choose one of {', '.join(PARTS)}.")
    metric_named(settings.metric)
    root = Path(settings.runs)
    if not root.is_dir():
        raise RunError(
            f"no folder {root}: give the one that the sweep writes to, as in runs=runs/methods_x_seeds, "
            "after the sweep has started."
        )
    folder = SweepFolder(root)
    with suppress(KeyboardInterrupt):
        if settings.once or not sys.stdout.isatty():
            sys.stdout.write(_plain(folder.snapshot(), settings))
        else:
            _watch(folder, settings)


def _watch(folder: SweepFolder, settings: DictConfig) -> None:
    console = Console(highlight=False)
    # Without rich's own refresh: reading a snapshot takes as long as the disk takes.
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            snapshot = folder.snapshot()
            live.update(_view(snapshot, settings, console.width, console.height), refresh=True)
            if snapshot.has_ended and time.time() - snapshot.changed > IDLE_S:
                return
            time.sleep(settings.refresh_s)


def _plain(snapshot: SweepSnapshot, settings: DictConfig) -> str:
    """The view without colours, 80 columns wide without a terminal."""
    width = shutil.get_terminal_size((80, 24)).columns
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(_view(snapshot, settings, width, None))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _view(snapshot: SweepSnapshot, settings: DictConfig, width: int, height: int | None) -> RenderableType:
    return view(
        snapshot,
        now=datetime.now(UTC),
        part=settings.part,
        metric=metric_named(settings.metric),
        width=width,
        height=height,
    )


if __name__ == "__main__":
    main()
