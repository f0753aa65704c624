"""The tools of `experiments/` that its commands share."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from experiments import tables
from experiments.methods.tuned import CHOSEN
from experiments.workers import Workers
from softcue.configs import CONFIG_PATH
from softcue.runs.identity import leaves
from tests.composing import options

INDEX = Path(__file__).parents[1] / "experiments" / "README.md"
READMES = sorted(INDEX.parent.glob("*/README.md"))


def test_a_worker_that_ends_by_itself_ends_the_run() -> None:
    workers = Workers(1)
    workers.submit("a job", ["prompt=prompt_tuning"])
    for process in workers._processes:
        process.kill()
        process.join()

    with pytest.raises(
        RuntimeError, match=r"1 of 1 worker processes ended by themselves \(exit codes \[-9\]\)"
    ):
        workers.run(lambda done: None, until=time.time() + 60)


def test_workers_end_with_the_process_that_started_them() -> None:
    code = "import os; from experiments.workers import Workers; w = Workers(1); "
    code += "print(w._processes[0].pid, flush=True); os.kill(os.getpid(), 9)"
    root = Path(__file__).parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    worker, until = Path("/proc") / ended.stdout.strip(), time.time() + 60
    while worker.exists() and time.time() < until:
        time.sleep(0.1)
    assert not worker.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lester trainer.acelerator=cpu", "trainer.acelerator: there is no such setting; did you mean"),
        ("lester --dry", "--dry: write name=value"),
        ("lestr", "lestr: no such table; there are labels, lester, "),
        ("lester --only nothing", "--only nothing: no run's line holds that"),
    ],
)
def test_what_a_command_cannot_do_is_said_once_and_first(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tables", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        tables.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_no_text_of_others_is_committed_with_records() -> None:
    files = list(Path(__file__).parents[1].glob("experiments/*/*/*/predictions*.parquet"))
    assert files
    assert [file for file in files if "text" in pq.read_schema(file).names] == []


@pytest.mark.slow
def test_tables_and_pictures_are_what_the_records_give() -> None:
    root = Path(__file__).parents[1]
    kinds = ("md", "svg", "csv", "gz")
    files = [path for kind in kinds for path in root.glob(f"experiments/**/*.{kind}")]
    before = {path: path.read_bytes() for path in files}
    subprocess.run([sys.executable, "-m", "experiments"], check=True, cwd=root, stdout=subprocess.DEVNULL)
    assert [path for path in files if path.read_bytes() != before[path]] == []


@pytest.mark.parametrize("preset", options("tuned"))
def test_a_tuned_preset_is_what_the_folds_chose(preset: str) -> None:
    """Or what the learning rates' records did, for the three methods that were tuned first."""
    path = CONFIG_PATH / "tuned" / f"{preset}.yaml"
    settings: Any = OmegaConf.to_container(OmegaConf.load(path))
    given = {f"prompt.{name}={value}" for name, value in leaves(settings["prompt"])}
    if "experiments/methods/chosen.json" not in path.read_text():
        assert preset.removeprefix("airline_complaints_") in {"prompt_tuning", "prefix_tuning", "p_tuning"}
        return
    chosen = json.loads(CHOSEN.read_text())[preset.removeprefix("airline_complaints_")]["settings"]
    # Late prompts leave out their layer, which is the default.
    assert given == set(chosen) - {"prompt.method.first_layer=15"}


def test_the_index_has_every_folder_with_a_command_of_its_readme() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*? \| `([^`]+)` \| .*? \| .*? \|$", INDEX.read_text(), re.MULTILINE)
    assert sorted(folder for folder, _ in rows) == sorted(path.parent.name for path in READMES)
    for folder, command in rows:
        assert command in (INDEX.parent / folder / "README.md").read_text()
