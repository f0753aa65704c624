"""Multitask prompt tuning on tweets, from the records: `python -m experiments.mpt.table` writes table.md."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.matrix import ABOUT, Groups, Label, Question, differences, matrix, published, recorded
from softcue.report.model import Run
from softcue.runs.atomic import write_atomic
from softcue.runs.record import RunRecord
from softcue.runs.store import list_records

HERE = Path(__file__).parent
SIZES = ("16", "32", "50")
SCRATCH, SPOT = "from scratch", "from one prompt for all topics (SPoT)"
PLAIN, DISTILLED = "from a multitask source", "from a distilled multitask source"
PAIRED = " beside each source"
SOURCES = (DISTILLED, PLAIN, SPOT)


class Sources:
    """The source runs by their folder's name: what they are, and their seed."""

    def __init__(self, folder: Path) -> None:
        listing = list_records(folder)
        self._known = {record.run_id: record for record in listing.records}

    def of(self, record: RunRecord) -> tuple[str, str]:
        """How a target starts, and the seed of its source; "" from scratch."""
        prompt: dict[str, Any] = record.settings["prompt"]
        path = prompt.get("source") or (prompt.get("initialiser") or {}).get("path")
        if not path:
            return SCRATCH, ""
        source = self._known[Path(path).name]
        if source.method == "prompt_tuning":
            return SPOT, str(source.seed)
        is_distilled = source.settings["objective"]["_target_"].endswith("Distillation")
        return (DISTILLED if is_distilled else PLAIN), str(source.seed)


def read() -> Groups:
    """The targets; those from scratch stand once by themselves, and once beside each seed of the sources."""
    sources = Sources(HERE / "runs")

    def label(record: RunRecord) -> Label:
        return sources.of(record)[0], str(record.settings["split"]["num_train"])

    def repeated(record: RunRecord) -> dict[str, str]:
        seed = sources.of(record)[1]
        return {"seed": str(record.seed), **({"source": seed} if seed else {})}

    found = Groups.read([HERE / "runs", *recorded("methods", "prompt_tuning")], label, repeated=repeated)
    seeds = sorted(
        {
            run.replicate["source"]
            for (start, _), runs in found.runs.items()
            if start != SCRATCH
            for run in runs
        }
    )
    runs = dict(found.runs)
    for (start, size), alone in found.runs.items():
        if start == SCRATCH and seeds:
            runs[start + PAIRED, size] = [_beside(run, seed) for seed in seeds for run in alone]
    return replace(found, runs=runs)


def _beside(run: Run, seed: str) -> Run:
    return replace(run, replicate={**run.replicate, "source": seed})


def table() -> str:
    """Starts by sizes, then each start against none, and distillation by itself."""
    groups = read()
    ahead = [
        Question(
            words=f"{start} ahead of {SCRATCH}, {size} labels",
            first=(start, size),
            second=(SCRATCH + PAIRED, size),
        )
        for start in SOURCES
        for size in SIZES
    ]
    distilled = [
        Question(
            words=f"distillation ahead of none, {size} labels", first=(DISTILLED, size), second=(PLAIN, size)
        )
        for size in SIZES
    ]
    scores = matrix(groups, corner="start / labels", rows=[SCRATCH, *SOURCES], columns=SIZES)
    return "\n".join([scores, ABOUT, differences(groups, [*ahead, *distilled])])


if __name__ == "__main__":
    write_atomic(HERE / "table.md", table())
    write_atomic(HERE / "published.md", published(HERE / "paper.csv"))
