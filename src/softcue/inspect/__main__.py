"""`softcue-inspect`: a finished prompt → tables, and a picture if asked for."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import DictConfig

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError
from softcue.runs.atomic import write_atomic

FORMATS = ("terminal", "markdown", "csv")
PICTURES = ("png", "svg")


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="inspect")
@run_app
def main(settings: DictConfig) -> None:
    """Print what a run's prompt is near, how far it moved and what attends to it."""
    _check(settings)
    # Imports torch, for which a mistake in the settings need not wait.
    from softcue.inspect.reading import read
    from softcue.inspect.render import text_of
    from softcue.trained import load

    draw = None if settings.plot is None else _painter()
    finished = load(settings.run, task=settings.task)
    reading = read(finished, prompt=settings.prompt, num_nearest=settings.nearest, num_rows=settings.rows)
    width = shutil.get_terminal_size((120, 24)).columns
    text = text_of(reading, form=settings.format, width=width)
    if settings.output is None:
        sys.stdout.write(text)
    else:
        write_atomic(Path(settings.output), text)
    if draw is not None:
        path = Path(settings.plot)
        write_atomic(path, draw(reading, form=path.suffix[1:]))


def _check(settings: DictConfig) -> None:
    if settings.format not in FORMATS:
        raise ConfigError(f"format is {settings.format!r}; choose one of {', '.join(FORMATS)}.")
    for name in ("nearest", "rows"):
        if settings[name] < 1:
            raise ConfigError(f"{name} is {settings[name]}; give a whole number from 1 up.")
    if settings.plot is not None and Path(settings.plot).suffix[1:] not in PICTURES:
        raise ConfigError(f"plot is {settings.plot!r}; end its name in .png or .svg.")


def _painter() -> Callable[..., bytes]:
    try:
        from softcue.inspect.plot import draw
    except ModuleNotFoundError as error:
        raise ConfigError(
            "plot needs matplotlib, which is not installed: pip install 'softcue[plots]', or plot=null."
        ) from error
    return draw


if __name__ == "__main__":
    main()
