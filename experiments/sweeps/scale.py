"""A thousand complete runs listed, skipped and collected; ten thousand jobs through one launcher.

`python -m experiments.sweeps.scale` writes `scale.json` beside this file. The thousand records are copies
of one record, under the names of a sweep's thousand jobs, so the sweep finds them complete. The launched jobs
train nothing, so only the launcher is measured: a thousand jobs with the whole config, which Hydra composes
each time, and ten thousand with a config of one setting.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from softcue.configs import CONFIG_PATH
from softcue.plan import folder_of, resolve
from softcue.report.__main__ import read_request
from softcue.report.command import make_comparison
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder, list_records
from softcue.sweep.jobs import Jobs

HERE = Path(__file__).parent
RECORD = next((HERE.parent / "quickstart").glob("runs/*/record.json"))
MANY, TINY = 1_000, 10_000
FINGERPRINT = "tiny"


def leave_record(settings: DictConfig) -> None:
    """A job that only writes its record."""
    complete(folder_of(resolve(settings), FINGERPRINT), seed=settings.seed)


def complete(folder: RunFolder, *, seed: int) -> None:
    """Write a complete record into a run's folder."""
    folder.create()
    record = RunRecord.from_json(RECORD.read_bytes())
    folder.write_record(replace(record, run_id=folder.path.name, seed=seed))


def overrides(root: Path, count: int) -> list[list[str]]:
    """The overrides of jobs that differ in their seed."""
    common = ["experiment=quickstart", f"paths.runs={root}"]
    return [[*common, f"seed={seed}"] for seed in range(count)]


def timed(what: str, began: float) -> dict[str, float | str]:
    """One measurement."""
    return {"what": what, "seconds": round(time.perf_counter() - began, 2)}


def thousand(jobs: Jobs, root: Path) -> list[dict[str, float | str]]:
    """Read a thousand jobs, then list, collect and skip their complete runs."""
    began = time.perf_counter()
    found = jobs.from_overrides(overrides(root, MANY))
    measured = [timed("read", began)]
    for seed, job in enumerate(found):
        complete(job.folders[0], seed=seed)
    began = time.perf_counter()
    assert len(list_records(root).records) == MANY
    measured.append(timed("list", began))
    began = time.perf_counter()
    make_comparison(read_request(compose("report", overrides=[f"runs={root}"])))
    measured.append(timed("collect", began))
    began = time.perf_counter()
    assert all(
        folder.is_complete for job in jobs.from_overrides(overrides(root, MANY)) for folder in job.folders
    )
    measured.append(timed("skip", began))
    return measured


def memory(launcher: Launcher, jobs: list[list[str]], every: int) -> list[dict[str, float]]:
    """Memory of this process in MB after every `every` jobs, launched one by one."""
    measured = []
    for number, job in enumerate(jobs):
        launcher.launch([job], number)
        if (number + 1) % every == 0:
            rss = psutil.Process().memory_info().rss / 1e6
            measured.append({"jobs": number + 1, "rss_mb": round(rss, 1)})
            print(measured[-1], file=sys.stderr, flush=True)
    return measured


def launcher_of(config_path: Path, name: str, task: TaskFunction) -> Launcher:
    """Hydra's own launcher for a sweep of this config."""
    composer = GlobalHydra.instance().hydra
    assert composer is not None
    config = composer.compose_config(
        name, ["hydra.sweep.dir=/tmp"], run_mode=RunMode.MULTIRUN, with_log_configuration=False
    )
    context = HydraContext(config_loader=composer.config_loader, callbacks=Callbacks(config))
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)


def main() -> None:
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIG_PATH), version_base="1.3"):
        root = Path(folder)
        composer = GlobalHydra.instance().hydra
        assert composer is not None
        config = composer.compose_config("train", [], run_mode=RunMode.MULTIRUN, with_log_configuration=False)
        result["thousand"] = thousand(Jobs(composer.config_loader, config), root / "many")
        print(result, file=sys.stderr, flush=True)
        write_atomic(HERE / "scale.json", json.dumps(result, indent=1))
        launcher = launcher_of(CONFIG_PATH, "train", leave_record)
        result["whole_config"] = memory(launcher, overrides(root / "whole", MANY), MANY // 10)
        write_atomic(HERE / "scale.json", json.dumps(result, indent=1))
    with tempfile.TemporaryDirectory() as folder:
        # A config of one setting composes in milliseconds; the whole one takes a tenth of a second.
        (Path(folder) / "tiny.yaml").write_text(
            "seed: 0\nhydra:\n  output_subdir: null\n"
            "  callbacks:\n    lean:\n      _target_: softcue.cli.LeanReturns\n"
        )
        with initialize_config_dir(folder, version_base="1.3"):
            launcher = launcher_of(Path(folder), "tiny", lambda settings: settings.seed)
            jobs = [[f"seed={seed}"] for seed in range(TINY)]
            result["tiny_config"] = memory(launcher, jobs, TINY // 10)
    write_atomic(HERE / "scale.json", json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
