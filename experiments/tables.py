"""The runs behind the paper tables: experiments/NAME/here.yaml declares them, this runs them.

`python -m experiments.tables labels lester --workers 4 --folder runs/tables [softcue-train's settings]`
trains what is not complete, of all named folders in the order of their ranks. `--list` prints it instead,
`--check` composes and checks every run, and `--pack experiments` copies the records of complete runs into
the folders. With `--paper` the runs are those of NAME/paper.yaml, a paper's own models, data and settings,
which need a model hub and a GPU.

Such a file has `common` overrides and `parts`. A part's jobs are the product of its `axes`, whose points are
overrides or lists of them; `always` are overrides of all its jobs, and parts of a lower `rank` come first.
`{part}` stands for the folders of an earlier part's runs, `{part:2}` for one of them, `{part:0-4}` for five.
`recorded` names folders of other experiments' records: runs that stand there are not trained again.
"""

from __future__ import annotations

import argparse
import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.records import keep
from experiments.workers import Done, Overrides, Workers, expect_settings

HERE = Path(__file__).parent
QUIET = ("trainer.enable_progress_bar=false", "callbacks.progress_bar=null")
SOURCE = re.compile(r"\{(?P<part>[a-z_]+)(?::(?P<first>\d+)(?:-(?P<last>\d+))?)?\}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One pass: the overrides of a `softcue-train`, with `{part}` for folders that are yet to come."""

    table: str
    part: str
    overrides: Overrides
    rank: int
    runs: str

    @property
    def key(self) -> str:
        """What distinguishes it."""
        return f"{self.table}/{self.part} {' '.join(self.overrides)}"

    def sources(self, parts: set[str]) -> set[str]:
        """The parts whose folders it names."""
        return {found["part"] for text in self.overrides for found in SOURCE.finditer(text)} & parts


@dataclass(frozen=True, kw_only=True)
class Table:
    """A folder's declared runs."""

    name: str
    common: Overrides
    jobs: tuple[Job, ...]
    recorded: tuple[str, ...] = ()

    @property
    def parts(self) -> set[str]:
        """Their names."""
        return {job.part for job in self.jobs}


def read(name: str, file: str = "here.yaml") -> Table:
    """The runs that a file of experiments/NAME declares."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(HERE / name / file), resolve=False)
    jobs = [job for part, of in settings["parts"].items() for job in _jobs(name, part, of)]
    recorded = tuple(settings.get("recorded", ()))
    return Table(name=name, common=tuple(settings["common"]), jobs=tuple(jobs), recorded=recorded)


def _jobs(table: str, part: str, settings: Mapping[str, Any]) -> list[Job]:
    unknown = settings.keys() - {"always", "axes", "rank", "runs"}
    if unknown:
        raise ValueError(f"experiments/{table}, {part}: {sorted(unknown)} is unknown.")
    axes = [[_listed(point) for point in points] for points in settings.get("axes", {}).values()]
    return [
        Job(
            table=table,
            part=part,
            overrides=(*settings.get("always", ()), *(text for point in points for text in point)),
            rank=settings.get("rank", 1),
            runs=settings.get("runs", "runs"),
        )
        for points in product(*axes)
    ]


def _listed(point: str | Sequence[str]) -> tuple[str, ...]:
    return (point,) if isinstance(point, str) else tuple(point)


class Tables:
    """All jobs of some folders; those that start from earlier runs follow when these are complete."""

    def __init__(self, workers: Workers, tables: Sequence[Table], folder: Path, settings: Overrides) -> None:
        self.workers, self.folder, self.settings = workers, folder, settings
        self.tables = {table.name: table for table in tables}
        self.jobs: dict[str, Job] = {}
        self.folders: dict[tuple[str, str], dict[str, Sequence[str]]] = defaultdict(dict)
        self.waiting: list[Job] = []

    def submit(self, only: str | None) -> None:
        """Every job whose key holds `only`, or whose runs such a job starts from."""
        for table in self.tables.values():
            for job in chosen(table, only):
                self.jobs[job.key] = job
                self.waiting.append(job)
        self._start_what_can()

    def when_done(self, done: Done) -> None:
        """Start what waited for these runs."""
        job = self.jobs[done.key]
        if not done.error:
            self.folders[job.table, job.part][job.key] = done.folders
        self._start_what_can()

    def _start_what_can(self) -> None:
        for job in list(self.waiting):
            table = self.tables[job.table]
            needed = [other for other in self.jobs.values() if other.table == job.table]
            needed = [other for other in needed if other.part in job.sources(table.parts)]
            if all(other.key in self.folders[other.table, other.part] for other in needed):
                self.waiting.remove(job)
                overrides = tuple(self._filled(text, needed) for text in job.overrides)
                where = f"paths.runs={self.folder / job.table / job.runs}"
                whole = (*QUIET, *table.common, *overrides, *self.settings, where)
                self.workers.submit(job.key, whole, rank=job.rank)

    def _filled(self, text: str, needed: Sequence[Job]) -> str:
        by_part: dict[str, list[str]] = defaultdict(list)
        for job in needed:
            by_part[job.part] += self.folders[job.table, job.part][job.key]
        return fill(text, by_part)


def fill(text: str, folders: Mapping[str, Sequence[str]]) -> str:
    """An override with the folders of earlier parts, joined by commas, where it names them."""

    def folders_of(found: re.Match[str]) -> str:
        if found["part"] not in folders:
            return found[0]
        first = 0 if found["first"] is None else int(found["first"])
        last = found["last"] or found["first"]
        end = len(folders[found["part"]]) if last is None else int(last) + 1
        return ",".join(folders[found["part"]][first:end])

    return SOURCE.sub(folders_of, text)


def chosen(table: Table, only: str | None) -> list[Job]:
    """The jobs whose key holds `only`, and those that they start from."""
    found = [job for job in table.jobs if only is None or only in job.key]
    needed = set().union(*(job.sources(table.parts) for job in found)) if found else set()
    while more := set().union(*(j.sources(table.parts) for j in table.jobs if j.part in needed)) - needed:
        needed |= more
    return [job for job in table.jobs if job in found or job.part in needed]


def check(table: Table, only: str | None) -> None:
    """Compose every job and read its rows; those that start from earlier runs are composed alone.

    Raises:
        SoftcueError: settings that contradict each other.
    """
    from softcue.configs.compose import Composer, config_loader
    from softcue.execute import train

    logging.disable(logging.WARNING)
    composer = Composer(config_loader())
    nowhere = {part: ["runs/none"] * 99 for part in table.parts}
    for job in chosen(table, only):
        overrides = (fill(text, nowhere) for text in job.overrides)
        config = composer.compose((*QUIET, *table.common, *overrides, "dry=true"))
        if not job.sources(table.parts):
            train(config)


def pack(table: Table, folder: Path, to: Path) -> int:
    """Copy the records and test predictions of complete runs that are this table's own; return how many."""
    found, others = 0, {path.name for path in others_runs(table)}
    for runs in sorted({job.runs for job in table.jobs}):
        for path in sorted((folder / table.name / runs).glob("*/record.json")):
            if path.parent.name not in others:
                found += keep(path.parent, to / table.name / runs)
    return found


def others_runs(table: Table) -> list[Path]:
    """The runs of other experiments, of which this table shows some."""
    return sorted(path for folder in table.recorded for path in (HERE / folder).glob("*-*"))


def take_recorded(table: Table, folder: Path) -> None:
    """Put such records where the table's own runs come, as they count as complete there."""
    for path in others_runs(table):
        if not (folder / table.name / "runs" / path.name).exists():
            keep(path, folder / table.name / "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e6)
    parser.add_argument("--folder", type=Path, default=Path("runs/tables"))
    parser.add_argument("--only", help="a part of the wanted jobs' lines, as --list prints them")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--paper", action="store_true", help="the runs of paper.yaml")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--pack", type=Path, metavar="TO", help="copy records to TO/NAME, and run nothing")
    arguments, settings = parser.parse_known_args()
    names = [one for one in arguments.names if "=" not in one]
    settings = [*(one for one in arguments.names if "=" in one), *settings]
    expect_settings(parser, settings)
    file = "paper.yaml" if arguments.paper else "here.yaml"
    if absent := [name for name in names if not (HERE / name / file).exists()]:
        known = sorted(path.parent.name for path in HERE.glob(f"*/{file}"))
        parser.error(f"{', '.join(absent)}: no such table; there are {', '.join(known)}.")
    tables = [read(name, file) for name in names]
    if not any(chosen(table, arguments.only) for table in tables):
        parser.error(f"--only {arguments.only}: no run's line holds that; --list prints them.")
    if arguments.list or arguments.check:
        for table in tables:
            for job in sorted(chosen(table, arguments.only), key=lambda one: one.rank):
                print(job.rank, job.key)
            print(f"{table.name}: {len(chosen(table, arguments.only))} passes")
            if arguments.check:
                check(table, arguments.only)
        return
    if arguments.pack:
        for table in tables:
            print(f"{table.name}: {pack(table, arguments.folder, arguments.pack)} complete runs")
        return
    for table in tables:
        take_recorded(table, arguments.folder)
    until = time.time() + arguments.seconds
    workers = Workers(arguments.workers)
    work = Tables(workers, tables, arguments.folder, tuple(settings))
    work.submit(arguments.only)
    workers.run(work.when_done, until=until)
    for job in work.waiting:
        print(f"not run, as a run that it starts from is missing: {job.key}")


if __name__ == "__main__":
    main()
