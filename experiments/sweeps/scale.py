"""A thousand complete runs listed, skipped and collected; ten thousand jobs through one launcher.

`python -m experiments.sweeps.scale` writes `scale.json` beside this file. The thousand records are copies
of one, named as the thousand jobs of a sweep are, so that the sweep finds them complete. Of the ten
thousand jobs nothing is trained: each writes a complete record, so that what is measured is the launcher.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import hydra
import psutil
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from softcue.configs import CONFIG_PATH
from softcue.report.table import comparison_rows
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder, list_records
from softcue.sweep.jobs import Jobs
from softcue.sweep.runner import Runner
from softcue.train import folder_of

HERE = Path(__file__).parent
RECORD = next((HERE.parent / "quickstart").glob("runs/*/record.json"))
MANY, TINY = 1_000, 10_000
FINGERPRINT = "tiny"


def leave_record(settings: DictConfig) -> None:
    """A tiny job: nothing but its record."""
    resolved = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=True))
    complete(folder_of(resolved, FINGERPRINT), seed=settings.seed)


def complete(folder: RunFolder, *, seed: int) -> None:
    """Leave a complete record there."""
    folder.create()
    record = RunRecord.from_json(RECORD.read_bytes())
    folder.write_record(replace(record, run_id=folder.path.name, seed=seed))


def overrides(root: Path, count: int) -> list[list[str]]:
    """Jobs that differ in their seed."""
    common = ["experiment=quickstart", f"paths.runs={root}"]
    return [[*common, f"seed={seed}"] for seed in range(count)]


def timed(what: str, began: float) -> dict[str, float | str]:
    """One measurement."""
    return {"what": what, "seconds": round(time.perf_counter() - began, 2)}


def thousand(jobs: Jobs, root: Path) -> list[dict[str, float | str]]:
    """List, skip and collect so many complete runs."""
    for seed, job in enumerate(jobs.of(overrides(root, MANY))):
        complete(job.folders[0], seed=seed)
    jobs.of(overrides(root, 1))  # the first look composes; a sweep of one job pays for that too
    measured = []
    began = time.perf_counter()
    records = list_records(root).records
    measured.append(timed("list", began))
    began = time.perf_counter()
    comparison_rows(records, part="test")
    measured.append(timed("collect", began))
    began = time.perf_counter()
    assert all(job.is_complete for job in jobs.of(overrides(root, MANY)))
    measured.append(timed("skip", began))
    return measured


def ten_thousand(context: HydraContext, config: DictConfig, jobs: Jobs, root: Path) -> list[dict[str, float]]:
    """Memory of this process after every thousandth job, in MB."""
    jobs._fingerprints.clear()
    runner = Runner.of(context, leave_record, config)
    measured = []
    for first in range(0, TINY, MANY):
        lists = overrides(root, TINY)[first : first + MANY]
        for at, job in enumerate(lists):
            runner.launcher.launch([job], first + at)
        rss = psutil.Process().memory_info().rss / 1e6
        measured.append({"jobs": first + MANY, "rss_mb": round(rss, 1)})
        print(measured[-1], file=sys.stderr, flush=True)
    return measured


if __name__ == "__main__":
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        loader = GlobalHydra.instance().config_loader()
        composer = GlobalHydra.instance().hydra
        assert composer is not None
        config = composer.compose_config(
            "train", ["hydra.sweep.dir=/tmp"], run_mode=RunMode.MULTIRUN, with_log_configuration=False
        )
        context = HydraContext(config_loader=loader, callbacks=hydra._internal.callbacks.Callbacks(config))
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            result: dict[str, object] = {"thousand": thousand(Jobs(loader, config), root / "many")}
            print(result, file=sys.stderr, flush=True)
            write_atomic(HERE / "scale.json", json.dumps(result, indent=1))
            result["ten_thousand"] = ten_thousand(context, config, Jobs(loader, config), root / "tiny")
        write_atomic(HERE / "scale.json", json.dumps(result, indent=1))
