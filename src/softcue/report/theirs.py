"""Other people's results as runs: plain tables of scores, and PEFT's method comparison as it publishes it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from softcue.errors import RunError
from softcue.report.cells import Variant, text_of
from softcue.report.model import Cost, Run
from softcue.report.runs import Loaded

PEFT_TASK = "GSM8K"
PEFT_ROWS = 1319
"""MetaMathQA's comparison is scored on GSM8K's test questions; its files do not hold their number."""

_COSTS = {
    "trainable_parameters": int,
    "shipped_bytes": int,
    "train_s": float,
    "total_s": float,
    "gpu_memory_mb": float,
}
_KNOWN = ("method", "task", "metric", "score", "rows", "seed", *_COSTS)


def load_theirs(paths: Sequence[Path], *, default_task: str, default_metric: str) -> list[Loaded]:
    """The scores in files, or in the JSON and CSV files of folders.

    Raises:
        RunError: a file that is not there, or holds no scores.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise RunError(f"{missing[0]} is not there: give a CSV or JSON file of scores, or a folder of them.")
    return [
        _loaded(row, file, default_task=default_task, default_metric=default_metric)
        for path in paths
        for file in (_files(path) if path.is_dir() else [path])
        for row in _rows(file)
    ]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in (".csv", ".json"))


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The scores of one file, each by column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            yield from csv.DictReader(text.splitlines())
            return
        content = json.loads(text)
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {error}.") from error
    if isinstance(content, dict) and "train_info" in content:
        yield from _peft_row(content, path)
    elif isinstance(content, list) and all(isinstance(row, dict) for row in content):
        yield from content
    else:
        raise RunError(
            f"{path} is neither a list of scores nor a result of PEFT's method comparison; write "
            '[{"method": "lora", "score": 0.48, "rows": 1319}].'
        )


def _peft_row(content: Mapping[str, Any], path: Path) -> Iterator[Mapping[str, Any]]:
    """The one score of a file under method_comparison/MetaMathQA/results; none of a run that failed."""
    try:
        info, config = content["train_info"], content["run_info"]["train_config"]
        if info["status"] != "success":
            return
        method, _, experiment = content["run_info"]["experiment_name"].partition("/")
        score = info["metrics"][-1]["test accuracy"]
        correct = score * PEFT_ROWS
        yield {
            "method": method,
            "task": PEFT_TASK,
            "metric": "accuracy",
            "score": score,
            "rows": PEFT_ROWS if abs(correct - round(correct)) < 1e-6 else None,
            "seed": config["seed"],
            "experiment": experiment,
            "trainable_parameters": info["num_trainable_params"],
            "shipped_bytes": info["file_size"],
            "train_s": info["train_time"],
            "gpu_memory_mb": info["accelerator_memory_max"] / 1e6,
        }
    except (KeyError, IndexError, TypeError) as error:
        raise RunError(
            f"{path} is not a result of PEFT's method comparison: {type(error).__name__} {error}."
        ) from error


def _loaded(row: Mapping[str, Any], path: Path, *, default_task: str, default_metric: str) -> Loaded:
    given = {name: value for name, value in row.items() if value not in (None, "")}
    try:
        method, score = str(given["method"]), float(given["score"])
        rows = int(given["rows"]) if "rows" in given else None
        cost = Cost(**{name: kind(given[name]) for name, kind in _COSTS.items() if name in given})
    except KeyError as missing:
        raise RunError(f"{path} has a row without {missing}; each needs a method and a score.") from missing
    except ValueError as error:
        raise RunError(f"{path} has a row that cannot be read: {error}.") from error
    metric = str(given.get("metric", default_metric))
    settings = {name: text_of(value) for name, value in given.items() if name not in _KNOWN}
    task = str(given.get("task", default_task))
    seed = {"seed": text_of(given["seed"])} if "seed" in given else {}
    return Loaded(
        variant=Variant(common={"method": method, "task": task, **settings}, replicate=seed),
        run=Run(
            run_id=f"{method} ({path.name})",
            method=method,
            task=task,
            replicate={},
            scores={metric: score},
            rows=rows,
            predictions=None,
            cost=cost,
            origin=path.name,
        ),
    )
