"""Write records.json: the seconds of softcue-report over a thousand records, and whether it imports torch.

200 settings of a method with 5 seeds each, without predictions and with those of 400 rows; copies of a
committed record.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.page.size import EXAMPLE
from softcue.runs.provenance import hardware, versions
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder, list_records

HERE = Path(__file__).parent
SETTINGS, SEEDS, ROWS = 200, 5, 400


def write_records(root: Path, *, predictions: bool) -> None:
    """Write the runs' folders."""
    example = next(one for one in list_records(EXAMPLE).records if one.method == "prompt_tuning")
    random = np.random.default_rng(0)
    target_N = random.integers(2, size=ROWS)
    for number in range(SETTINGS):
        for seed in range(SEEDS):
            record = _record(example, number, seed, float(random.uniform(0.5, 0.8)))
            folder = RunFolder(root, record.run_id)
            folder.create()
            folder.write_record(record)
            if predictions:
                _write_predictions(folder, target_N, random)


def _record(example: RunRecord, number: int, seed: int, score: float) -> RunRecord:
    settings = json.loads(json.dumps(example.settings))
    settings["seed"] = settings["split"]["seed"] = seed
    settings["optimizer"]["lr"] = number / 1000
    return replace(
        example,
        run_id=f"prompt_tuning-{number:06d}{seed:06d}",
        seed=seed,
        settings=settings,
        metrics={"test": {"accuracy": score, "macro_f1": score, "auroc": score}},
    )


def _write_predictions(folder: RunFolder, target_N: np.ndarray, random: np.random.Generator) -> None:
    probability_N = random.random(ROWS)
    classes = ("complaint", "no complaint")
    folder.write_predictions(
        part="test",
        columns={
            "id": [str(row) for row in range(ROWS)],
            "label": [classes[target] for target in target_N],
            "predicted": [classes[int(p > 0.5)] for p in probability_N],
            "nll": (-np.log(np.where(target_N == 1, probability_N, 1 - probability_N))).tolist(),
            "p(complaint)": (1 - probability_N).tolist(),
            "p(no complaint)": probability_N.tolist(),
        },
    )


def measure(root: Path) -> tuple[float, list[str]]:
    """Seconds of the command from start to end, and which of torch and the like it imported."""
    command = [sys.executable, "-X", "importtime", "-m", "softcue.report", f"runs={root}"]
    began = time.perf_counter()
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    imported = set(re.findall(r"\| +(torch|lightning|transformers)$", ended.stderr, flags=re.MULTILINE))
    return round(seconds, 1), sorted(imported)


def main() -> None:
    """Measure, and write the record."""
    found: dict[str, object] = {"records": SETTINGS * SEEDS, "rows": ROWS}
    for name, predictions in (("records_s", False), ("records_and_predictions_s", True)):
        with tempfile.TemporaryDirectory() as folder:
            write_records(Path(folder), predictions=predictions)
            found[name], found["imported"] = measure(Path(folder))
    found |= {"cpu": hardware(threads=1, gpu=None).cpu, "softcue": versions()["softcue"]}
    (HERE / "records.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
