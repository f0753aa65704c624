"""Write size.json: the page of 200 runs on 3,399 rows, its bytes, and the seconds to make, open and use it.

40 settings of 4 methods with 5 seeds each; records are copies of a committed one, predictions are random.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

from softcue.runs.provenance import hardware, versions
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder, list_records

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "quickstart" / "runs"
METHODS = ("prompt_tuning", "p_tuning", "prefix_tuning", "tfidf")
RATES = np.geomspace(0.001, 0.3, 10).round(4).tolist()
SEEDS, ROWS = 5, 3399
CLASSES = ("complaint", "no complaint")
WORDS = [
    "flight",
    "delay",
    "crew",
    "thanks",
    "bag",
    "lost",
    "gate",
    "late",
    "service",
    "hours",
    "seat",
    "hold",
]
BROWSER = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


def write_runs(root: Path) -> int:
    """Write the runs; their number."""
    example = next(one for one in list_records(EXAMPLE).records if one.method == "prompt_tuning")
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, size=17)) for _ in range(ROWS)]
    target_N = random.integers(2, size=ROWS)
    for number, method in enumerate(METHODS):
        for rate in RATES:
            for seed in range(SEEDS):
                shift = 1.5 - 0.3 * number - abs(np.log10(rate) + 1.5) / 2
                logit_N = random.normal(size=ROWS) + shift * (2 * target_N - 1)
                _write(root, example, method, rate, seed, texts, target_N, 1 / (1 + np.exp(-logit_N)))
    return len(METHODS) * len(RATES) * SEEDS


def _write(
    root: Path,
    example: RunRecord,
    method: str,
    rate: float,
    seed: int,
    texts: list[str],
    target_N: Any,
    probability_N: Any,
) -> None:
    settings = json.loads(json.dumps(example.settings))
    settings["seed"] = settings["split"]["seed"] = seed
    settings["prompt"].update(name=method, learning_rate=rate)
    settings["optimizer"]["lr"] = rate
    predicted_N = (probability_N > 0.5).astype(int)
    accuracy = float((predicted_N == target_N).mean())
    run_id = f"{method}-{round(rate * 1e4):06d}{seed:06d}"
    folder = RunFolder(root, run_id)
    folder.create()
    folder.write_record(
        replace(
            example,
            run_id=run_id,
            method=method,
            seed=seed,
            settings=settings,
            metrics={"test": {"accuracy": accuracy, "macro_f1": accuracy, "auroc": None}},
            num_rows={**example.num_rows, "test": ROWS},
        )
    )
    right_N = np.where(target_N == 1, probability_N, 1 - probability_N)
    folder.write_predictions(
        part="test",
        columns={
            "id": [str(row) for row in range(ROWS)],
            "text": texts,
            "label": [CLASSES[target] for target in target_N],
            "predicted": [CLASSES[predicted] for predicted in predicted_N],
            "nll": (-np.log(right_N)).tolist(),
            "p(complaint)": (1 - probability_N).tolist(),
            "p(no complaint)": probability_N.tolist(),
        },
    )


def measure_in_a_browser(page_path: Path) -> dict[str, float]:
    """Seconds until the page is drawn with its first example, and to sort, search and open one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(BROWSER))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        found = {}
        began = time.perf_counter()
        page.goto(page_path.as_uri())
        page.locator(".row").first.wait_for()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found["interactive_s"] = time.perf_counter() - began
        actions: dict[str, Callable[[], object]] = {
            "sort_s": page.get_by_role("button", name="macro-F1").first.click,
            "search_s": partial(page.get_by_label("Search").fill, "late crew"),
            "open_s": page.locator(".row").first.click,
        }
        for name, act in actions.items():
            began = time.perf_counter()
            act()
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            found[name] = time.perf_counter() - began
        browser.close()
    return {name: round(seconds, 3) for name, seconds in found.items()}


def main() -> None:
    """Measure, and write the record."""
    with tempfile.TemporaryDirectory() as folder:
        root, page_path = Path(folder) / "runs", Path(folder) / "report.html"
        runs = write_runs(root)
        command = [sys.executable, "-m", "softcue.report", f"runs={root}", f"page={page_path}"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = {
            "runs": runs,
            "rows": ROWS,
            "make_s": round(time.perf_counter() - began, 1),
            "page_bytes": page_path.stat().st_size,
            **measure_in_a_browser(page_path),
            "cpu": hardware(threads=1, gpu=None).cpu,
            "softcue": versions()["softcue"],
        }
    (HERE / "size.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
