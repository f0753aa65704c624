"""`softcue-watch`: a sweep's folder → how the sweep goes, until it has ended."""

from __future__ import annotations

import io
import shutil
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console, RenderableType
from rich.live import Live

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError, RunError
from softcue.sweep.state import Look, SweepFolder
from softcue.sweep.view import view

QUIET_S = 10.0
"""Seconds without a change after which a sweep whose jobs have all ended is taken to have ended too.

Between two rounds of a search, or when failed jobs are run again, there is nothing else to tell them apart.
"""


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="watch")
@run_app
def main(settings: DictConfig) -> None:
    """Show how the sweep in a folder goes."""
    if settings.refresh_s <= 0:
        raise ConfigError(f"refresh_s is {settings.refresh_s}; give seconds above 0.")
    root = Path(settings.runs)
    if not root.is_dir():
        raise RunError(
            f"no folder {root}: give the one that the sweep writes to, as in runs=runs/methods_x_seeds, "
            "once it has started."
        )
    folder = SweepFolder(root)
    with suppress(KeyboardInterrupt):
        if settings.once or not sys.stdout.isatty():
            sys.stdout.write(_plain(folder.look(), settings))
        else:
            _watch(folder, settings)


def _watch(folder: SweepFolder, settings: DictConfig) -> None:
    console = Console(highlight=False)
    # No refresh of its own: a look takes as long as the folder's disk does, and one at a time is enough.
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            look = folder.look()
            live.update(_view(look, settings, console.width, console.height), refresh=True)
            if look.has_ended and time.time() - look.changed > QUIET_S:
                return
            time.sleep(settings.refresh_s)


def _plain(look: Look, settings: DictConfig) -> str:
    """As in the terminal, without colours; 80 columns unless the terminal says otherwise."""
    width = shutil.get_terminal_size((80, 24)).columns
    console = Console(file=io.StringIO(), width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(_view(look, settings, width, None))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _view(look: Look, settings: DictConfig, width: int, height: int | None) -> RenderableType:
    now = datetime.now(UTC)
    return view(look, now=now, part=settings.part, metric=settings.metric, width=width, height=height)


if __name__ == "__main__":
    main()
