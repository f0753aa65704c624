"""A sweep's folder, filled by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softcue.runs.record import Failure, RunRecord
from softcue.runs.store import RunFolder

EXAMPLE = RunRecord.from_json((Path(__file__).parents[1] / "runs" / "record_v1.json").read_text())

HOLD = """
import sys
from pathlib import Path
from softcue.runs.store import RunFolder
with RunFolder(Path(sys.argv[1]), sys.argv[2]).lock(wait_s=0):
    print("held", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Folder:
    """The folder of a sweep."""

    root: Path

    def plan(self, *jobs: str | Sequence[str], labels: Sequence[str] = ()) -> None:
        """Write a plan of jobs, each given by its run's id or its runs' ids."""
        runs = [[job] if isinstance(job, str) else list(job) for job in jobs]
        labels = labels or [f"seed={number}" for number in range(len(jobs))]
        plan = [{"label": label, "runs": ids} for label, ids in zip(labels, runs, strict=True)]
        command = ["-m", "experiment=quickstart", "seed=0,1,2"]
        (self.root / "sweep.json").write_text(json.dumps({"jobs": plan, "command": command}))

    def add(self, run_id: str, *, macro_f1: float | None = None, **changes: Any) -> RunRecord:
        """Write a record, complete unless `changes` set another status."""
        metrics = {"test": {"macro_f1": macro_f1, "perplexity": macro_f1}}
        record = replace(
            EXAMPLE, **{"run_id": run_id, "method": run_id.rpartition("-")[0], "metrics": metrics, **changes}
        )
        folder = RunFolder(self.root, run_id)
        folder.create()
        folder.write_record(record)
        return record

    def fail(self, run_id: str, message: str) -> None:
        """Write the record of a failure."""
        self.add(run_id, status="failed", error=Failure(type="TrainingError", message=message))

    @contextmanager
    def running(self, run_id: str, **changes: Any) -> Iterator[None]:
        """Let another process hold the run's lock during the block; afterwards the run is interrupted."""
        self.add(run_id, status="running", times=None, **changes)
        command = [sys.executable, "-c", HOLD, str(self.root), run_id]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            try:
                yield
            finally:
                process.communicate()
