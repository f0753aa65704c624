"""A prompt that costs nothing, for predictions that are started, killed and started again."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.predict.command import predict_table
from softcue.predict.settings import PredictSettings

CLASSES = ("long", "short")


class KilledError(BaseException):
    """The end of a process between two instructions."""


class CheapPrompt:
    """What the command uses of a trained prompt, without a model; a text is judged by its length."""

    writes_texts = False
    template = SimpleNamespace(columns=("text",))
    task = SimpleNamespace(classes=CLASSES, name="lengths")
    record = SimpleNamespace(run_id="cheap-0", finished_at="2026-01-02")

    def predict(self, rows: Sequence[Mapping[str, str]], *, batch_size: int) -> Iterator[SimpleNamespace]:
        """Probabilities that depend on the whole batch, as a real model's last digits do."""
        total = sum(len(row["text"]) for row in rows)
        for row in rows:
            share = len(row["text"]) / total
            yield SimpleNamespace(probabilities={"long": share, "short": 1 - share})


def settings_of(*overrides: str) -> PredictSettings:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        composed = compose(config_name="predict", overrides=["run=r", *overrides])
    return PredictSettings.of(OmegaConf.to_container(composed, throw_on_missing=True))


def predict(*overrides: str) -> None:
    predict_table(settings_of(*overrides))


def table(num_rows: int, *, path: str = "in.csv") -> Path:
    with Path(path).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ID", "text"])
        writer.writerows((row, f"tweet {row} " + "so\nlong " * (row % 3 + 1)) for row in range(num_rows))
    return Path(path)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


FILE_CALLS = ((Path, "open"), (Path, "replace"), (Path, "unlink"), (os, "fsync"))


def predict_mortally(settings: PredictSettings, *, steps: int) -> bool:
    """Die before the file operation that follows so many; whether there was one."""
    left = iter(range(steps))
    died = False

    def mortal(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal died
            if died or next(left, None) is None:
                died = True
                raise KilledError
            return original(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patched:
        for owner, name in FILE_CALLS:
            patched.setattr(owner, name, mortal(getattr(owner, name)))
        with suppress(KilledError):
            predict_table(settings)
    return died
