"""Kill runs on the real backbone at random steps and compare them with uninterrupted ones.

`python -m experiments.sweeps.kills [CASE ...]` writes `kills.json` beside this file: for each case, how often
its process was killed and whether prompts, curves, metrics and predictions are the same bytes at the end.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from softcue.runs.atomic import write_atomic
from softcue.runs.store import RunFolder

HERE = Path(__file__).parent
CASES = {
    "prompt_tuning": ["prompt=prompt_tuning"],
    "prefix_tuning": ["prompt=prefix_tuning", "split.num_validation=6"],
    "prefix_tuning_projected": [
        "prompt=prefix_tuning_projected",
        "optimizer=adafactor",
        "prompt.learning_rate=0.3",
        "scheduler=constant",
    ],
    "p_tuning": ["prompt=p_tuning", "data.order=length_grouped", "trainer.accumulate_grad_batches=2"],
    "p_tuning_lstm": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.1"],
    "multitask": ["prompt=multitask", "data=tweet_topics", "split.balance=equal", "data.batch_size=12"],
    "suffix": ["prompt=prompt_tuning_suffix"],
    "suffix, contexts recomputed": ["prompt=prompt_tuning_suffix", "cache.budget_gb=0", "seed=1"],
    "joint": ["prompt=p_tuning", "joint.seed=[0,1]"],
    "joint, with dropout": ["prompt=p_tuning_lstm", "prompt.method.dropout=0.1", "joint.seed=[0,1]"],
}
COMMON = [
    "experiment=quickstart",
    "split.num_train=12",
    "split.num_test=4",
    "data.batch_size=3",
    "trainer.max_epochs=4",
    "callbacks.last.every_s=0",
    "callbacks.progress_bar=null",
    "trainer.enable_progress_bar=false",
]
KILLS = 4


def start(overrides: list[str]) -> subprocess.Popen[bytes]:
    """Start `softcue-train` in a process of its own."""
    command = [sys.executable, "-m", "softcue.app", *overrides]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_done(root: Path) -> int:
    """Rows of the curves below a folder."""
    return sum(len(path.read_text().splitlines()) for path in root.glob("*/metrics.csv"))


def content(root: Path) -> tuple[dict[str, bytes], object]:
    """The files and numbers of runs that must not differ."""
    files, numbers = {}, []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        record = RunFolder(folder, "").record()
        assert record is not None
        assert record.training is not None
        numbers.append((record.metrics, record.training.steps))
        for path in folder.iterdir():
            if path.name in ("prompt.safetensors", "metrics.csv") or path.name.startswith("predictions_"):
                files[f"{folder.name}/{path.name}"] = path.read_bytes()
    return files, numbers


def kill_and_resume(overrides: list[str], root: Path, rng: random.Random) -> int:
    """Start a run, kill it after one to six further steps and start it again; return the number of kills."""
    kills = 0
    while True:
        until = steps_done(root) + rng.randint(1, 6) if kills < KILLS else sys.maxsize
        process = start([*overrides, f"paths.runs={root}"])
        while process.poll() is None and steps_done(root) < until:
            time.sleep(0.005)
        if process.poll() is not None:
            return kills
        # Anywhere in a step, not only after a row of the curve.
        time.sleep(rng.random() * 0.5)
        process.kill()
        process.wait()
        kills += 1


def main() -> None:
    rng = random.Random(0)
    kept = json.loads((HERE / "kills.json").read_text()) if (HERE / "kills.json").exists() else []
    for case in sys.argv[1:] or CASES:
        overrides = [*COMMON, *CASES[case]]
        with tempfile.TemporaryDirectory() as folder:
            whole, killed = Path(folder) / "whole", Path(folder) / "killed"
            assert start([*overrides, f"paths.runs={whole}"]).wait() == 0
            killed.mkdir()
            kills = kill_and_resume(overrides, killed, rng)
            files, numbers = content(whole)
            files_killed, numbers_killed = content(killed)
            differing = sorted(name for name in files if files[name] != files_killed.get(name))
            result = {
                "case": case,
                "settings": CASES[case],
                "kills": kills,
                "identical": files == files_killed and numbers == numbers_killed,
                "differing": differing,
            }
        print(result, flush=True)
        kept = [*(one for one in kept if one["case"] != case), result]
        write_atomic(HERE / "kills.json", json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
